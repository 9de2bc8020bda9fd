"""The two JSON documents, from the ledger: `gpuplan status --json` and `gpuplan cost --json`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from orchestrator import cost
from orchestrator.engine import accounting
from orchestrator.ledger import Ledger, tables
from orchestrator.words.model import Plan
from orchestrator.words.spec import RunSpec


def status(ledger: Ledger, run: str) -> dict[str, Any]:
    """Where a run is: the document of DESIGN section 8."""
    row = ledger.one(tables.runs, id=run)
    return {
        "run": run,
        "state": row["state"],
        "outcome": row["outcome"],
        "dry_run": bool(row["dry_run"]),
        "phases": [_phase(ledger, run, p) for p in ledger.all(tables.phases, run=run)],
        "machines": [
            {"name": m["name"], "provider": m["provider"], "state": m["state"]}
            for m in ledger.all(tables.machines, run=run)
        ],
        "volumes": [{"name": v.name, "state": v.state} for v in accounting.volumes_of(ledger, run)],
    }


def kept(ledger: Ledger, spec: RunSpec) -> list[dict[str, Any]]:
    """What goes on costing money after the run: the plan's volumes. `due`: when it was to be gone; None: unknown."""
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


def _phase(ledger: Ledger, run: str, phase: Any) -> dict[str, Any]:
    name = phase["name"]
    return {
        "phase": name,
        "state": phase["state"],
        "steps": [
            {"name": _shown(s["id"], name), "state": s["state"], "seconds": round(_seconds(s, ledger.now()), 3)}
            for s in ledger.all(tables.steps, run=run, phase=name)
        ],
        "deliverables": [
            {"name": d["name"], "ok": bool(d["ok"]), "detail": d["detail"]}
            for d in ledger.all(tables.deliverables, run=run, phase=name)
        ],
    }


def bill(ledger: Ledger, run: str, plan: Plan) -> cost.CostReport:
    """What the run has cost so far, beside the plan's figures."""
    now = accounting.moment(ledger.now())
    row = ledger.one(tables.runs, id=run)
    times = [
        cost.StepTime(
            phase=s["phase"],
            name=_shown(s["id"], s["phase"]),
            machines=tuple(m for m in s["machines"].split(",") if m),
            started=accounting.moment(s["started_at"]),
            ended=accounting.moment(s["ended_at"]) if s["ended_at"] else None,
        )
        for s in ledger.all(tables.steps, run=run)
        if s["started_at"]
    ]
    planned = {p["name"]: _planned(plan, p["name"]) for p in ledger.all(tables.phases, run=run)}
    return cost.report(
        run,
        accounting.machine_charges(ledger, run),
        accounting.volume_charges(ledger, run),
        times,
        now=now,
        planned=planned,
        settled=bool(row["settled"]),
    )


def _planned(plan: Plan, phase: str) -> tuple[Decimal, Decimal] | None:
    planned = plan.phase(phase).planned
    return (planned.hours, planned.usd) if planned else None


def _shown(step: str, phase: str) -> str:
    """A step's own name inside its phase; PHASE/STEP for one that was pulled in."""
    return step.removeprefix(f"{phase}/")


def _seconds(step: Any, now: float) -> float:
    if not step["started_at"]:
        return 0.0
    return float((step["ended_at"] or now) - step["started_at"])
