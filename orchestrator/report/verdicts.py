"""How all the deliverables of a plan stand in a run: what was answered, and why others were not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import PhaseRow
from orchestrator.words.lifecycle import PhaseState
from orchestrator.words.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Verdict:
    """One deliverable. ok None: it could not be shown there or, where it is not `answered`, nobody asked.

    `detail` says why, and may quote a machine: it is escaped.
    """

    phase: str
    name: str
    ok: bool | None
    detail: str = ""
    answered: bool = True


def of_run(ledger: Ledger, spec: RunSpec) -> list[Verdict]:
    """Every deliverable of the run's plan, in the plan's order, those of phases that were not asked for too."""
    phases = {row.name: row for row in ledger.phases.all(run=spec.run)}
    rows = {(row.phase, row.name): row for row in ledger.deliverables.all(run=spec.run)}
    found = []
    for phase in spec.plan.phases:
        for wanted in phase.deliverables:
            row = rows.get((phase.name, wanted.name))
            if row:
                found.append(Verdict(phase.name, wanted.name, row.ok, row.detail))
            else:
                why = _why_not(phases.get(phase.name))
                found.append(Verdict(phase.name, wanted.name, ok=None, detail=why, answered=False))
    return found


def _why_not(phase: PhaseRow | None) -> str:
    """Why nobody has asked for the deliverables of a phase; None: the run is not about it."""
    if phase is None:
        return "the phase was not asked for"
    if phase.state != PhaseState.DONE:
        return "not asked yet"
    return "the phase ended before this was asked" if phase.started_at else "the phase did not run"


def summary(found: Sequence[Verdict]) -> str:
    """How many hold, and how it is with the others: `24 hold, 6 need a real GPU`."""
    held = sum(one.ok is True for one in found)
    failed = sum(one.ok is False for one in found)
    unshown = sum(one.ok is None and one.answered for one in found)
    unasked = sum(not one.answered for one in found)
    others = [
        (failed, "does not hold", "do not hold"),
        (unshown, "needs a real GPU", "need a real GPU"),
        (unasked, "was not asked", "were not asked"),
    ]
    words = ["1 holds" if held == 1 else f"{held} hold"]
    return ", ".join(words + [f"{count} {one if count == 1 else more}" for count, one, more in others if count])
