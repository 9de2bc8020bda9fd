"""The command that reaches a run's machines: ssh."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import RunName, find_run, open_home, print_json
from orchestrator.words.errors import NoMachine
from orchestrator.words.lifecycle import MachineState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.ledger.rows import MachineRow
    from orchestrator.words.provider import Address
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home


@dataclass(frozen=True, slots=True)
class Way:
    """How a machine of a run is reached. `known_hosts`: a file with its pinned key."""

    home: Home
    ledger: Ledger
    spec: RunSpec
    row: MachineRow
    address: Address
    key_file: Path
    known_hosts: Path


def find_way(run: str | None, node: int) -> Way:
    """To the newest machine of a run (None: the newest one) that is up as that node. NoMachine: none is."""
    from orchestrator.transport.commands import known_hosts
    from orchestrator.transport.keys import key_file
    from orchestrator.words.provider import Address
    from orchestrator.world.host_keys import pinned_under

    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    rows = ledger.machines.all(run=spec.run, state=MachineState.REACHABLE, node=node)
    if not rows:
        raise NoMachine(f"{spec.run} has no machine up as node {node}", remedy=f"gpuplan status {spec.run}")
    row = rows[-1]
    address = Address(row.host, row.port, row.user)
    pinned = ledger.host_keys.get(address=pinned_under(row, rented=not spec.world.ssh_host)).key
    known = home.run_folder(spec.run) / "known_hosts"
    known.write_text(known_hosts(address, pinned))
    key = Path(spec.world.ssh_key) if spec.world.ssh_key else key_file(home.path)
    return Way(home, ledger, spec, row, address, key, known)


def ssh(
    run: RunName = None,
    *,
    node: Annotated[int, typer.Option("--node", min=0, help="Which node of the phase (0: the root).")] = 0,
    command: Annotated[str, typer.Option("--command", "-c", help="Run this instead of a shell.")] = "",
    forward: Annotated[
        list[str] | None,
        typer.Option("-L", metavar="PORT:HOST:PORT", help="Lead a port here to one there, as ssh does; repeatable."),
    ] = None,
    agent: Annotated[bool, typer.Option("-A", help="Let the machine use the keys of your ssh-agent.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the machine and how to reach it; open nothing.")] = False,
) -> None:
    """Open a shell on a running machine of a run."""
    from orchestrator.transport.commands import ssh_argv

    way = find_way(run, node)
    words = [command] if command else []
    way.ledger.close()
    argv = ssh_argv(
        way.address, way.key_file, way.known_hosts, *words, tty=sys.stdin.isatty(), forward=forward or (), agent=agent
    )
    if json:
        print_json({"run": way.spec.run, "machine": way.row.name, "argv": argv})
        return
    os.execvp(argv[0], argv)  # noqa: S606  the user's own ssh takes over this process
