"""Which view a run gets, and the picture of it, taken from the ledger."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator import cost
from orchestrator.engine import accounting, names
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import MachineRow, PhaseRow, StepRow, TransferRow
from orchestrator.report import forecast
from orchestrator.report.console import is_live
from orchestrator.report.naming import machine_name, shown, what
from orchestrator.report.plain import PlainView
from orchestrator.report.snapshot import MachineLine, PhaseLine, Snapshot, StepLine, TransferLine
from orchestrator.words.lifecycle import MachineState, PhaseState
from orchestrator.words.outside import LONG, quoted
from orchestrator.words.spec import RunSpec

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


def snapshot(ledger: Ledger, spec: RunSpec, *, driven: bool = True) -> Snapshot:
    """The run at this moment. `driven`: whether a living process drives it."""
    run, now = spec.run, accounting.moment(ledger.now())
    row = ledger.runs.get(id=run)
    charges = accounting.machine_charges(ledger, run)
    accrued = accounting.accrued(ledger, run)
    machines = ledger.machines.all(run=run)
    volumes = [v for v in accounting.volumes_of(ledger, run) if not v.state.is_final]
    phases = ledger.phases.all(run=run)
    ahead = forecast.ahead(spec, phases, machines, sum((v.price_hour for v in volumes), Decimal(0)), ledger.now())
    retries = {f"{p.name}/{s.name}": s.retries for p in spec.plan.phases for s in p.steps}
    asked = [phase.name for phase in spec.plan.phases]
    rented = any(m.price_hour for m in machines)
    return Snapshot(
        run=run,
        plan=spec.plan.name,
        state=row.state,
        phases=tuple(_phase(ledger, p, retries, charges, now, _setting_up(p, machines)) for p in phases),
        machines=tuple(_machine(m) for m in machines),
        cost_usd=accrued,
        budget_usd=spec.plan.settings.budget_usd,
        started=_moment(row.created_at),
        ended=_moment(row.ended_at),
        events=tuple(
            (e.id, names.spoken(quoted(e.text, LONG), asked)) for e in ledger.newest_events(run, EVENTS, minor=False)
        ),
        dry_run=row.dry_run,
        transfers=tuple(_transfer(t) for t in ledger.transfers.all(run=run)),
        volume_hour=sum((v.price_hour for v in volumes), Decimal(0)),
        left_s=ahead.left_s if ahead else None,
        expected_usd=accrued + ahead.usd if ahead and ahead.usd is not None else None,
        deadman_minutes=(spec.deadman_minutes or spec.plan.settings.deadman_minutes) if rented else None,
        driven=driven,
    )


def _phase(
    ledger: Ledger, row: PhaseRow, retries: dict[str, int], charges: list[cost.MachineCharge], now: datetime, doing: str
) -> PhaseLine:
    return PhaseLine(
        name=row.name,
        state=row.state,
        outcome=row.outcome,
        steps=tuple(_step(s, retries.get(s.id, 0)) for s in ledger.steps.all(run=row.run, phase=row.name)),
        detail=names.spoken(_first_line(row.error)) or doing,
        started=_moment(row.started_at),
        ended=_moment(row.ended_at),
        usd=cost.accrued([c for c in charges if c.phase == row.name], now),
    )


def _setting_up(row: PhaseRow, machines: Sequence[MachineRow]) -> str:
    """What goes on between a machine that is up and the phase's first step: packages, `setup`; "": something else."""
    up = any(m.phase == row.name and m.state == MachineState.REACHABLE for m in machines)
    return "setting up" if up and row.state == PhaseState.PROVISIONING else ""


def _step(row: StepRow, retries: int) -> StepLine:
    return StepLine(
        id=row.id,
        name=shown(row),
        state=row.state,
        started=_moment(row.started_at),
        ended=_moment(row.ended_at),
        detail=names.spoken(_first_line(row.detail)),
        tries=row.tries,
        attempts=retries + 1,
    )


def _machine(row: MachineRow) -> MachineLine:
    return MachineLine(
        name=machine_name(row),
        state=row.state,
        what=what(row),
        price_hour=row.price_hour,
        detail=names.spoken(quoted(row.reason)),
        phase=row.phase,
        provider=row.provider,
        long=row.name,
        since=_moment(row.sent_at or row.requested_at),
        up=_moment(row.reachable_at),
    )


def _transfer(row: TransferRow) -> TransferLine:
    took = (row.ended_at or row.at) - row.since
    return TransferLine(
        phase=row.phase,
        kind=row.kind,
        place=names.spoken(row.place),
        files=row.files,
        files_done=row.files_done,
        bytes=row.bytes,
        bytes_done=row.bytes_done,
        rate=row.moved / took if row.moved and took > 0 else None,
        since=_moment(row.since),
        ended=_moment(row.ended_at),
    )


def _first_line(text: str) -> str:
    return quoted(text.split("\n", 1)[0])


def _moment(seconds: float | None) -> datetime | None:
    return accounting.moment(seconds) if seconds else None
