"""What is still to come of a run, from the figures that its preview showed: hours and dollars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.ledger.rows import MachineRow, PhaseRow
from orchestrator.words.lifecycle import PhaseState
from orchestrator.words.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is still to come. usd None: a phase has no price."""

    left_s: float
    usd: Decimal | None


def ahead(
    spec: RunSpec, phases: Sequence[PhaseRow], machines: Sequence[MachineRow], volume_hour: Decimal, now: float
) -> Ahead | None:
    """What the phases that have not ended are still expected to take; None: not known, or longer than expected.

    A phase that is under way is expected to take what is left of its estimate, at the prices of its living machines.
    """
    left, usd = Decimal(0), Decimal(0)
    priced = True
    for phase in phases:
        if phase.state == PhaseState.DONE:
            continue
        if (expected := spec.expected.get(phase.name)) is None:
            return None
        if phase.started_at is None:
            left += expected.hours
            priced = priced and expected.usd is not None
            usd += expected.usd or Decimal(0)
            continue
        rest = expected.hours - Decimal(now - phase.started_at) / 3600
        if rest <= 0:
            return None
        left += rest
        usd += rest * sum((m.price_hour for m in machines if not m.state.is_final), Decimal(0))
    return Ahead(float(left) * 3600, usd + left * volume_hour if priced else None)
