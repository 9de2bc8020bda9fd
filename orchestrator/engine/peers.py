"""Whether the nodes of a phase reach each other: each has its private address, and each worker has reached the root."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial

from orchestrator.engine.context import Context
from orchestrator.engine.effects import NotReached, Reached, Readiness
from orchestrator.engine.readiness import POLL_S, address
from orchestrator.ledger.rows import MachineRow
from orchestrator.plan import Crew
from orchestrator.transport.refusals import AgentFailed
from orchestrator.words.errors import ConnectionLost, ProviderUnavailable

ADDRESS_S = 120.0  # for the private addresses, in the cloud's time: a provider gives them after the machine is up
KNOCK_S = 20.0  # for the connections, real seconds


def meet(context: Context, phase: str, crew: Crew, asked: Sequence[str]) -> dict[str, Readiness]:
    """How it stands with `asked`, machines of a crew with several nodes that were made now, and reached.

    Each is to have its private address; when all nodes are there, each worker is to reach the root.
    """
    lacking = [row.name for row in _with_addresses(context, phase, crew, asked) if not row.private_ip]
    if lacking:
        said = f"had no private address within {ADDRESS_S / 60:g} min"
        return {n: NotReached(f"{n} {said}", nowhere=True) if n in lacking else Reached() for n in asked}
    rows = context.beside(phase, crew)
    why = _why_apart(context, rows) if len(rows) == crew.need.nodes else ""
    return {name: NotReached(f"{name}: {why}", nowhere=True) if why else Reached() for name in asked}


def _with_addresses(context: Context, phase: str, crew: Crew, asked: Sequence[str]) -> list[MachineRow]:
    """Those machines once each has a private address, or when the time for that is over."""
    clock = context.clock
    give_up = clock.monotonic() + clock.real(ADDRESS_S)
    while True:
        rows = [row for row in context.beside(phase, crew) if row.name in asked]
        lacking = [row for row in rows if not row.private_ip]
        if not lacking or clock.monotonic() >= give_up:
            return rows
        for row in lacking:
            try:
                if view := context.provider.machine(row.provider_id):
                    address(context, row, view)
            except ProviderUnavailable:
                continue
        context.control.check()
        context.control.pause(clock.scaled(POLL_S))


def _why_apart(context: Context, rows: list[MachineRow]) -> str:
    """Why a worker does not reach the root over TCP; "": all do."""
    root, workers = rows[0], rows[1:]
    word, port = secrets.token_hex(16), 0
    opened = context.clock.signal()

    def hold_open() -> str:
        def tell(found: int) -> None:
            nonlocal port
            port = found
            opened.notify()

        try:
            context.agents(root.name).door(root.private_ip, len(workers), word, KNOCK_S, tell)
        except (ConnectionLost, AgentFailed) as error:
            tell(-1)
            return f"the root opens no port for the others: {error.message}"
        return ""

    def knock(row: MachineRow) -> str:
        opened.wait(lambda: port != 0, KNOCK_S)
        if port <= 0:
            return ""
        try:
            why = context.agents(row.name).knock(root.private_ip, port, word, KNOCK_S)
        except (ConnectionLost, AgentFailed) as error:
            why = error.message
        return f"{row.name} does not reach the root at {root.private_ip} over TCP: {why}" if why else ""

    calls: list[Callable[[], str]] = [hold_open, *(partial(knock, row) for row in workers)]
    return next(filter(None, context.clock.gather(calls)), "")
