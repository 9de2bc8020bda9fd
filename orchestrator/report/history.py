"""What earlier runs took, to estimate with and to compare with."""

from __future__ import annotations

import time
from decimal import Decimal

from orchestrator.ledger import Ledger, tables
from orchestrator.lifecycle import Outcome
from orchestrator.model import Plan
from orchestrator.report import documents


def earlier(ledger: Ledger, plan: Plan) -> dict[str, tuple[Decimal, Decimal]]:
    """Phase -> hours and USD of its last real run that succeeded; rehearsals are not counted."""
    found: dict[str, tuple[Decimal, Decimal]] = {}
    names = {p.name for p in plan.phases}
    for run in ledger.all(tables.runs, dry_run=0, outcome=str(Outcome.SUCCEEDED)):
        phases = ledger.all(tables.phases, run=run["id"])
        if not {p["name"] for p in phases} <= names:
            continue  # a run of another plan
        for phase in documents.bill(ledger, str(run["id"]), plan).phases:
            found[phase.phase] = (phase.hours, phase.usd)
    return found


def as_text(moment: float) -> str:
    """A ledger's time in this computer's zone; "" for none."""
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(moment)) if moment else ""
