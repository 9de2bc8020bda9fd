"""The two JSON documents, from the ledger: `gpuplan status --json` and `gpuplan cost --json`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypedDict

from orchestrator import cost
from orchestrator.engine import accounting
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import PhaseRow, StepRow
from orchestrator.report import verdicts
from orchestrator.report.verdicts import Verdict
from orchestrator.words.model import Plan
from orchestrator.words.spec import RunSpec


class StepDocument(TypedDict):
    """One step of the status."""

    name: str
    state: str
    seconds: float


class DeliverableDocument(TypedDict):
    """One deliverable of the status. ok None: not shown, or not asked; `detail` says why."""

    name: str
    ok: bool | None
    detail: str


class PhaseDocument(TypedDict):
    """One phase of the status."""

    phase: str
    state: str
    steps: list[StepDocument]
    deliverables: list[DeliverableDocument]


class MachineDocument(TypedDict):
    """One machine of the status."""

    name: str
    provider: str
    state: str


class VolumeDocument(TypedDict):
    """One volume of the status."""

    name: str
    state: str


class StatusDocument(TypedDict):
    """Where a run is. `driven`: a living process drives it; `usd_hour`: what it costs an hour now."""

    run: str
    state: str
    outcome: str | None
    driven: bool
    usd_hour: str
    dry_run: bool
    phases: list[PhaseDocument]
    machines: list[MachineDocument]
    volumes: list[VolumeDocument]


class KeptDocument(TypedDict):
    """A volume that goes on costing money. `due`: when it was to be gone; None: unknown."""

    name: str
    usd_a_day: str
    due: str | None


def status(ledger: Ledger, spec: RunSpec, *, driven: bool) -> StatusDocument:
    """Where a run is: the document of DESIGN section 8. `driven`: whether a process holds the run's lock."""
    run = spec.run
    row, answers = ledger.runs.get(id=run), verdicts.of_run(ledger, spec)
    return {
        "run": run,
        "state": row.state,
        "outcome": row.outcome,
        "driven": driven,
        "usd_hour": f"{usd_hour(ledger, run):.5f}",
        "dry_run": row.dry_run,
        "phases": [_phase(ledger, p, answers) for p in ledger.phases.all(run=run)],
        "machines": [{"name": m.name, "provider": m.provider, "state": m.state} for m in ledger.machines.all(run=run)],
        "volumes": [{"name": v.name, "state": v.state} for v in accounting.volumes_of(ledger, run)],
    }


def usd_hour(ledger: Ledger, run: str) -> Decimal:
    """What the run's machines and volumes that may still exist cost an hour."""
    prices = [m.price_hour for m in ledger.machines.all(run=run) if not m.state.is_final]
    prices += [v.price_hour for v in accounting.volumes_of(ledger, run) if not v.state.is_final]
    return sum(prices, Decimal(0))


def kept(ledger: Ledger, spec: RunSpec) -> list[KeptDocument]:
    """What goes on costing money after the run: the plan's volumes."""
    if spec.world.throwaway:
        return []
    return [
        {
            "name": volume.name,
            "usd_a_day": str(volume.price_hour * 24),
            "due": accounting.moment(volume.deadline).isoformat() if volume.deadline else None,
        }
        for volume in accounting.living_volumes(ledger, spec)
    ]


def _phase(ledger: Ledger, phase: PhaseRow, answers: Sequence[Verdict]) -> PhaseDocument:
    of_phase = {"run": phase.run, "phase": phase.name}
    return {
        "phase": phase.name,
        "state": phase.state,
        "steps": [
            {"name": shown(s), "state": s.state, "seconds": round(_seconds(s, ledger.now()), 3)}
            for s in ledger.steps.all(**of_phase)
        ],
        "deliverables": [{"name": a.name, "ok": a.ok, "detail": a.detail} for a in answers if a.phase == phase.name],
    }


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


def shown(step: StepRow) -> str:
    """A step's own name inside its phase; PHASE/STEP for one that was pulled in."""
    return step.id.removeprefix(f"{step.phase}/")


def _seconds(step: StepRow, now: float) -> float:
    return (step.ended_at or now) - step.started_at if step.started_at else 0.0
