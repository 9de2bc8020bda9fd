"""What earlier runs took, to estimate with and to compare with."""

from __future__ import annotations

import time
from decimal import Decimal

from orchestrator.ledger import Ledger
from orchestrator.plan import measured_rates
from orchestrator.report import documents
from orchestrator.words.lifecycle import Outcome, StepState
from orchestrator.words.model import Plan


def earlier(ledger: Ledger, plan: Plan) -> dict[str, tuple[Decimal, Decimal]]:
    """Phase -> hours and USD of its last real run that succeeded; rehearsals are not counted."""
    found: dict[str, tuple[Decimal, Decimal]] = {}
    names = {p.name for p in plan.phases}
    for run in ledger.runs.all(dry_run=False, outcome=Outcome.SUCCEEDED):
        if not {p.name for p in ledger.phases.all(run=run.id)} <= names:
            continue  # a run of another plan
        for phase in documents.bill(ledger, run.id, plan).phases:
            if phase.hours:  # one with nothing to do took nothing
                found[phase.phase] = (phase.hours, phase.usd)
    return found


def rates(ledger: Ledger, plan: Plan) -> dict[str, float]:
    """Rate name -> MB/s that the steps of earlier real runs moved their bytes at."""
    spans = {
        s.id: (s.started_at, s.ended_at)
        for run in ledger.runs.all(dry_run=False)
        for s in ledger.steps.all(run=run.id, state=StepState.DONE)
        if s.started_at and s.ended_at
    }
    return measured_rates(plan, spans)


def metrics(ledger: Ledger) -> dict[tuple[str, str], tuple[float, str]]:
    """(step id, figure) -> value and place, as the last real run measured it on the first of its nodes."""
    return {
        (f.step, f.name): (f.value, f.measured_on)
        for run in ledger.runs.all(dry_run=False)
        for f in sorted(ledger.figures.all(run=run.id), key=lambda f: -f.node)
    }


def as_text(moment: float) -> str:
    """A ledger's time in this computer's zone; "" for none."""
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(moment)) if moment else ""
