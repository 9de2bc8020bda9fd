"""The JSON documents, from the ledger: `gpuplan status --json` and `gpuplan cost --json`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from orchestrator import cost
from orchestrator.engine import accounting, names
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import MachineRow, PhaseRow, RunRow, VolumeRow
from orchestrator.report import verdicts, views
from orchestrator.report.naming import machine_name, shown, what
from orchestrator.report.snapshot import PhaseLine, StepLine, TransferLine
from orchestrator.report.verdicts import Verdict
from orchestrator.words.errors import ExitCode
from orchestrator.words.lifecycle import RunState
from orchestrator.words.model import Plan
from orchestrator.words.spec import RunSpec


class KeptDocument(TypedDict):
    """A volume that goes on costing money. `due`: when it was to be gone; None: unknown."""

    name: str
    label: str
    size_gb: int
    usd_a_day: str
    due: str | None


class StepDocument(TypedDict):
    """One step of the status. `attempt`: how often its command was begun, of so many `attempts`; times in ISO 8601."""

    name: str
    state: str
    seconds: float
    attempt: int
    attempts: int
    started_at: str | None
    ended_at: str | None
    detail: str


class DeliverableDocument(TypedDict):
    """One deliverable of the status. ok None: not shown, or not asked; `detail` says why."""

    name: str
    ok: bool | None
    detail: str


class PhaseDocument(TypedDict):
    """One phase of the status. `usd`: of its machines so far."""

    phase: str
    state: str
    outcome: str | None
    usd: str
    started_at: str | None
    ended_at: str | None
    steps: list[StepDocument]
    deliverables: list[DeliverableDocument]


class MachineDocument(TypedDict):
    """One machine of the status. `name`: as the provider lists it; `called`: as people say it."""

    name: str
    called: str
    provider: str
    state: str
    what: str
    usd_hour: str
    spot: bool


class VolumeDocument(TypedDict):
    """One volume of the status."""

    name: str
    label: str
    state: str
    size_gb: int
    usd_hour: str


class TransferDocument(TypedDict):
    """Files on their way. bytes_s None: nothing has moved; left_s None: unknown, or over."""

    phase: str
    kind: str
    place: str
    files: int
    files_done: int
    bytes: int
    bytes_done: int
    bytes_s: float | None
    left_s: float | None
    ended: bool


class StatusDocument(TypedDict):
    """Where a run is. `driven`: a living process drives it; `usd_hour`: what it costs an hour now.

    exit None: it has not ended; left_s, expected_usd None: not known; `reason`: why it failed, if it did.
    """

    run: str
    plan: str
    state: str
    outcome: str | None
    driven: bool
    exit: int | None
    reason: str
    usd: str
    usd_hour: str
    budget_usd: str | None
    expected_usd: str | None
    started_at: str | None
    ended_at: str | None
    elapsed_s: float
    left_s: float | None
    dry_run: bool
    tags: list[str]
    phases: list[PhaseDocument]
    machines: list[MachineDocument]
    volumes: list[VolumeDocument]
    transfers: list[TransferDocument]
    kept: list[KeptDocument]


def status(ledger: Ledger, spec: RunSpec, *, driven: bool, exit_code: int | None = None) -> StatusDocument:
    """Where a run is. `driven`: whether a process holds its lock; `exit_code`: what its command ends with, if known."""
    seen = views.snapshot(ledger, spec, driven=driven)
    row, answers = ledger.runs.get(id=spec.run), verdicts.of_run(ledger, spec)
    now = accounting.moment(ledger.now())
    lines = {phase.name: phase for phase in seen.phases}
    return {
        "run": spec.run,
        "plan": spec.plan.name,
        "state": row.state,
        "outcome": row.outcome,
        "driven": driven,
        "exit": exit_code if exit_code is not None else exit_of(ledger, row),
        "reason": reason(ledger, spec.run),
        "usd": _usd(seen.cost_usd),
        "usd_hour": f"{accounting.usd_hour(ledger, spec.run):.5f}",
        "budget_usd": str(seen.budget_usd) if seen.budget_usd is not None else None,
        "expected_usd": _usd(seen.expected_usd) if seen.expected_usd is not None else None,
        "started_at": _iso(seen.started),
        "ended_at": _iso(seen.ended),
        "elapsed_s": round(((seen.ended or now) - seen.started).total_seconds(), 3) if seen.started else 0.0,
        "left_s": round(seen.left_s) if seen.left_s is not None else None,
        "dry_run": row.dry_run,
        "tags": [tag for tag in row.tags.split(",") if tag],
        "phases": [_phase(p, lines[p.name], answers, now) for p in ledger.phases.all(run=spec.run)],
        "machines": [_machine(m) for m in ledger.machines.all(run=spec.run)],
        "volumes": [_volume(v) for v in accounting.volumes_of(ledger, spec.run)],
        "transfers": [_transfer(one) for one in seen.transfers],
        "kept": kept(ledger, spec) if row.state == RunState.DONE else [],
    }


def exit_of(ledger: Ledger, row: RunRow) -> int | None:
    """The exit code of the command that brought a run to its end; None: it has not ended."""
    if row.state != RunState.DONE or row.outcome is None:
        return None
    unshown = not row.dry_run and ledger.deliverables.all(run=row.id, ok=None)
    return int(max(row.outcome.exit_code, ExitCode.FAILED if unshown else ExitCode.DONE))


def reason(ledger: Ledger, run: str) -> str:
    """Why a run did not succeed, in the words of the phase that did not; "": nothing went wrong so far."""
    said = (row.error for row in ledger.phases.all(run=run) if row.error)
    return names.spoken(next(said, ledger.runs.get(id=run).error))


def kept(ledger: Ledger, spec: RunSpec) -> list[KeptDocument]:
    """What goes on costing money after the run: the plan's volumes."""
    if spec.world.throwaway:
        return []
    return [
        {
            "name": volume.name,
            "label": volume.label,
            "size_gb": volume.size_gb,
            "usd_a_day": str(volume.price_hour * 24),
            "due": accounting.moment(volume.deadline).isoformat() if volume.deadline else None,
        }
        for volume in accounting.living_volumes(ledger, spec)
    ]


def _phase(row: PhaseRow, line: PhaseLine, answers: Sequence[Verdict], now: datetime) -> PhaseDocument:
    return {
        "phase": row.name,
        "state": row.state,
        "outcome": row.outcome,
        "usd": _usd(line.usd),
        "started_at": _iso(line.started),
        "ended_at": _iso(line.ended),
        "steps": [_step(step, now) for step in line.steps],
        "deliverables": [{"name": a.name, "ok": a.ok, "detail": a.detail} for a in answers if a.phase == row.name],
    }


def _step(step: StepLine, now: datetime) -> StepDocument:
    took = ((step.ended or now) - step.started).total_seconds() if step.started else 0.0
    return {
        "name": step.name,
        "state": step.state,
        "seconds": round(took, 3),
        "attempt": step.tries,
        "attempts": step.attempts,
        "started_at": _iso(step.started),
        "ended_at": _iso(step.ended),
        "detail": step.detail,
    }


def _machine(row: MachineRow) -> MachineDocument:
    return {
        "name": row.name,
        "called": machine_name(row),
        "provider": row.provider,
        "state": row.state,
        "what": what(row),
        "usd_hour": str(row.price_hour),
        "spot": row.spot,
    }


def _volume(row: VolumeRow) -> VolumeDocument:
    return {
        "name": row.name,
        "label": row.label,
        "state": row.state,
        "size_gb": row.size_gb,
        "usd_hour": str(row.price_hour),
    }


def _transfer(line: TransferLine) -> TransferDocument:
    over = line.ended is not None
    return {
        "phase": line.phase,
        "kind": line.kind,
        "place": line.place,
        "files": line.files,
        "files_done": line.files_done,
        "bytes": line.bytes,
        "bytes_done": line.bytes_done,
        "bytes_s": round(line.rate, 1) if line.rate else None,
        "left_s": round(line.left_s, 1) if line.left_s is not None and not over else None,
        "ended": over,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None


def _usd(amount: Decimal) -> str:
    return str(amount.quantize(cost.PLACES))


def bill(ledger: Ledger, run: str, plan: Plan) -> cost.CostReport:
    """What the run has cost so far, beside the plan's figures."""
    times = [
        cost.StepTime(
            phase=s.phase,
            name=shown(s),
            machines=tuple(m for m in s.machines.split(",") if m),
            started=accounting.moment(s.started_at),
            ended=accounting.moment(s.ended_at) if s.ended_at else None,
        )
        for s in ledger.steps.all(run=run)
        if s.started_at
    ]
    return cost.report(
        run,
        accounting.machine_charges(ledger, run),
        accounting.volume_charges(ledger, run),
        times,
        now=accounting.moment(ledger.now()),
        planned={p.name: _planned(plan, p.name) for p in ledger.phases.all(run=run)},
        settled=ledger.runs.get(id=run).settled,
    )


def _planned(plan: Plan, phase: str) -> tuple[Decimal, Decimal] | None:
    planned = plan.phase(phase).planned
    return (planned.hours, planned.usd) if planned else None
