"""Which view a run gets, and the picture of it, taken from the ledger."""

from __future__ import annotations

import sys
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator.engine import accounting
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import MachineRow, PhaseRow, StepRow
from orchestrator.report.console import is_live
from orchestrator.report.documents import shown
from orchestrator.report.plain import PlainView
from orchestrator.report.snapshot import MachineLine, PhaseLine, Snapshot, StepLine
from orchestrator.words.outside import LONG, quoted

if TYPE_CHECKING:
    from orchestrator.report.live import LiveView


EVENTS = 20  # more than happen between two looks


def open_view(*, err: bool) -> PlainView | LiveView:
    """A picture that is redrawn on a terminal, plain lines otherwise. Use it in a `with` statement."""
    out = sys.stderr if err else sys.stdout
    if not is_live(out):
        return PlainView(out)
    from orchestrator.report.live import LiveView
    from orchestrator.report.rendering import StrictConsole

    return LiveView(StrictConsole(file=out))


def snapshot(ledger: Ledger, run: str, budget: Decimal | None) -> Snapshot:
    """The run at this moment."""
    row = ledger.runs.get(id=run)
    return Snapshot(
        run=run,
        state=row.state,
        phases=tuple(_phase(ledger, p) for p in ledger.phases.all(run=run)),
        machines=tuple(_machine(m) for m in ledger.machines.all(run=run)),
        cost_usd=accounting.accrued(ledger, run),
        budget_usd=budget,
        started=_moment(row.created_at),
        events=tuple((e.id, quoted(e.text, LONG)) for e in ledger.newest_events(run, EVENTS)),
    )


def _phase(ledger: Ledger, row: PhaseRow) -> PhaseLine:
    return PhaseLine(
        name=row.name,
        state=row.state,
        outcome=row.outcome,
        steps=tuple(_step(s) for s in ledger.steps.all(run=row.run, phase=row.name)),
        detail=_first_line(row.error),
    )


def _step(row: StepRow) -> StepLine:
    return StepLine(
        id=row.id,
        name=shown(row),
        state=row.state,
        started=_moment(row.started_at),
        ended=_moment(row.ended_at),
        detail=_first_line(row.detail),
    )


def _machine(row: MachineRow) -> MachineLine:
    gpus = f"{row.gpus}x {row.type_id}" if row.gpus else row.type_id
    spot = ", interruptible" if row.spot else ""
    return MachineLine(
        name=row.name,
        state=row.state,
        what=f"{row.provider} {gpus} {row.place}{spot}".strip(),
        price_hour=row.price_hour,
        detail=quoted(row.reason),
    )


def _first_line(text: str) -> str:
    return quoted(text.split("\n", 1)[0])


def _moment(seconds: float | None) -> datetime | None:
    return accounting.moment(seconds) if seconds else None
