"""`gpuplan open`: Jupyter on a running machine, or its provider's page of it."""

from __future__ import annotations

import json as documents
from typing import Annotated

import typer

from orchestrator.cli.common import Json, RunName, open_world, print_json
from orchestrator.cli.reaching import find_way
from orchestrator.report.console import say, say_link
from orchestrator.words.errors import UsageError

PORT = 8888


def open_(
    run: RunName = None,
    *,
    console: Annotated[bool, typer.Option("--console", help="Print the provider's page of that machine.")] = False,
    node: Annotated[int, typer.Option("--node", min=0, help="Which node of the phase (0: the root).")] = 0,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=1, max=65535, help="Of 127.0.0.1 here, where it is free.")
    ] = PORT,
    json: Json = False,
) -> None:
    """Open Jupyter on a running machine of a run, until Ctrl-C."""
    way = find_way(run, node)
    named = {"run": way.spec.run, "machine": way.row.name}
    rehearsed = bool(way.spec.cloud)
    if console:
        from orchestrator.providers import CONSOLES

        page = CONSOLES.get(way.row.provider, "").format(id=way.row.provider_id)
        if not page or rehearsed:
            raise UsageError(f"{way.row.name} has no page of a provider", remedy=f"gpuplan ssh {way.spec.run}")
        if json:
            print_json(named | {"console": page})
        else:
            say(page)
        return
    if rehearsed:
        raise UsageError(
            f"{way.row.name} is a rehearsed machine: it forwards no port", remedy=f"gpuplan ssh {way.spec.run}"
        )
    from orchestrator.cli.notebook import Notebook
    from orchestrator.transport.agent import Agent
    from orchestrator.transport.ssh import SshTransport
    from orchestrator.world.host_keys import HostKeys

    provider = open_world(way.home, way.ledger, way.spec).provider(way.row.provider)
    keys = HostKeys(way.ledger, way.row, expected=way.spec.world.host_key, rented=provider.rented)
    transport = SshTransport(way.address, way.key_file, keys)

    def tell(link: str) -> None:
        if json:
            say_link(documents.dumps(named | {"url": link}))
            return
        say_link(f"open {link}")
        say("the link lets in whoever has it; Ctrl-C ends Jupyter, and neither the run nor the machine")

    try:
        agent = Agent(transport, workspace=provider.mount_path)
        agent.install()
        agent.hello()
        Notebook(way, agent, port).serve(tell)
    finally:
        transport.close()
        way.ledger.close()
