"""Which view a run gets, and the picture of it, taken from the ledger."""

from __future__ import annotations

import sys
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator.engine import accounting
from orchestrator.ledger import Ledger, Row, tables
from orchestrator.report.console import is_live
from orchestrator.report.plain import PlainView
from orchestrator.report.snapshot import MachineView, PhaseView, Snapshot, StepView
from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, RunState, StepState

if TYPE_CHECKING:
    from orchestrator.report.live import LiveView


EVENTS = 20  # more than happen between two looks


def open_view(*, err: bool) -> PlainView | LiveView:
    """A picture that is redrawn on a terminal, plain lines otherwise. Use it in a `with` statement."""
    out = sys.stderr if err else sys.stdout
    if not is_live(out):
        return PlainView(out)
    from orchestrator.report.live import LiveView
    from orchestrator.report.tables import Loud

    return LiveView(Loud(file=out))


def snapshot(ledger: Ledger, run: str, budget: Decimal | None) -> Snapshot:
    """The run at this moment."""
    row = ledger.one(tables.runs, id=run)
    return Snapshot(
        run=run,
        state=RunState(row["state"]),
        phases=tuple(_phase(ledger, run, p) for p in ledger.all(tables.phases, run=run)),
        machines=tuple(_machine(m) for m in ledger.all(tables.machines, run=run)),
        cost_usd=accounting.accrued(ledger, run),
        budget_usd=budget,
        started=_moment(row["created_at"]),
        events=tuple((int(e["id"]), str(e["text"])) for e in ledger.newest_events(run, EVENTS)),
    )


def _phase(ledger: Ledger, run: str, row: Row) -> PhaseView:
    name = str(row["name"])
    return PhaseView(
        name=name,
        state=PhaseState(row["state"]),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        steps=tuple(_step(s, name) for s in ledger.all(tables.steps, run=run, phase=name)),
        detail=str(row["error"] or "").split("\n", 1)[0],
    )


def _step(row: Row, phase: str) -> StepView:
    return StepView(
        id=str(row["id"]),
        name=str(row["id"]).removeprefix(f"{phase}/"),
        state=StepState(row["state"]),
        started=_moment(row["started_at"]),
        ended=_moment(row["ended_at"]),
        detail=str(row["detail"] or "").split("\n", 1)[0],
    )


def _machine(row: Row) -> MachineView:
    gpus = f"{row['gpus']}x {row['type_id']}" if row["gpus"] else str(row["type_id"])
    spot = ", interruptible" if row["spot"] else ""
    return MachineView(
        name=str(row["name"]),
        state=MachineState(row["state"]),
        what=f"{row['provider']} {gpus} {row['place']}{spot}".strip(),
        price_hour=Decimal(row["price_hour"]),
        detail=str(row["reason"] or ""),
    )


def _moment(seconds: float | None) -> datetime | None:
    return accounting.moment(seconds) if seconds else None
