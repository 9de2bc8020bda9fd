"""Commands that reach a run's machines or its artifacts: ssh, pull."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import Json, RunName, find_run, open_home, open_world, print_json
from orchestrator.report.console import say
from orchestrator.words.errors import NoMachine, StepFailed, UsageError
from orchestrator.words.lifecycle import MachineState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.ledger.rows import MachineRow
    from orchestrator.words.ports import Address
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
    from orchestrator.transport.keys import key_file
    from orchestrator.words.ports import Address
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
    known.write_text(f"[{address.host}]:{address.port} {pinned}\n{address.host} {pinned}\n")
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


def pull(
    run: RunName = None,
    *,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to put the files.")] = Path("local"),
    force: Annotated[bool, typer.Option("--force", help="Replace files that gpuplan did not fetch, too.")] = False,
    json: Json = False,
) -> None:
    """Fetch a run's artifacts from its store, going on with what is there, each verified by its sha256."""
    from dataclasses import asdict

    from orchestrator.engine.artifacts import Home, fetch_all, manifest_files
    from orchestrator.engine.effects import ManifestFile

    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    if not spec.stores:
        raise UsageError(f"{spec.run} has no store", remedy="its artifacts were not uploaded anywhere")
    manifests = sorted(home.run_folder(spec.run).glob("manifest-*.json"))
    if not manifests:
        raise StepFailed(f"{spec.run} has uploaded nothing", remedy=f"gpuplan status {spec.run}")
    if spec.world.throwaway:
        raise UsageError(
            "the rehearsed store ended with its run", remedy=f"what was pulled lies below {spec.pull_root}"
        )
    world = open_world(home, ledger, spec)
    files: list[dict[str, object]] = []

    def note(file: ManifestFile, how: str) -> None:
        files.append(asdict(file) | {"how": how})
        if not json:
            say(f"{file.name}  {how}")

    try:
        store = world.store(spec.stores[0])
        wanted = [file for manifest in manifests for file in manifest_files(manifest.read_text())]
        fetch_all(store, wanted, Home(to, home.run_folder(spec.run).parent, force), world.clock, said=note)
    except FileNotFoundError as error:
        raise StepFailed(f"{spec.stores[0]} has it no more: {error}", remedy="the volume may still have it") from error
    finally:
        world.leave(spec.run)
    if json:
        print_json({"run": spec.run, "folder": str(to.resolve()), "files": files})
    else:
        say(f"all in {to.resolve()}")
