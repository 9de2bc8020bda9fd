"""What goes on after a run: volumes that are kept, and other runs that have not ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.engine import accounting
from orchestrator.report.figures import money
from orchestrator.words.lifecycle import RunState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.words.spec import RunSpec


def kept(ledger: Ledger, spec: RunSpec) -> list[str]:
    """A line for each volume of the plan that goes on costing money, with what ends it."""
    lines = []
    rows = [] if spec.world.throwaway else accounting.living_volumes(ledger, spec)
    for row in rows:
        due = accounting.moment(row.deadline) if row.deadline else None
        late = f", was to be gone by {due.astimezone():%Y-%m-%d}" if due and due < datetime.now(UTC) else ""
        where = f" in {row.place}" if len(rows) > 1 else ""  # a plan that moved has one more
        lines.append(
            f"kept: volume {row.label}{where}, {row.size_gb} GB, {money(row.price_hour * 24)} a day{late} "
            f"(gpuplan down {spec.run} --volumes deletes it)"
        )
    return lines


def unfinished(ledger: Ledger, spec: RunSpec) -> list[str]:
    """A line for each other run that has not ended; beside a real run rehearsals do not matter."""
    others = [r for r in ledger.runs.all() if r.state != RunState.DONE and r.id != spec.run]
    return [
        f"{r.id} has not ended either: gpuplan status {r.id}, gpuplan down {r.id}"
        for r in others
        if spec.world.dry_run or not r.dry_run
    ]
