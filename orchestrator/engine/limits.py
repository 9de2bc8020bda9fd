"""What a run may not pass: somebody's word, a budget, a phase's time-out. And the lease that others wait for.

A budget is what everything may cost, its end included: what ending takes is kept back, so that the cap is passed only
while a provider refuses or delays a delete.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.engine import accounting
from orchestrator.engine.control import Reason
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import PhaseRow
from orchestrator.words.spec import RunSpec
from orchestrator.words.waiting import Clock

LEASE_S = 180.0  # real seconds without renewal after which another run may take the volume
JUMP_S = 60.0  # by which the wall clock was set: less is its ordinary keeping of time
ENDING_S = 120.0  # what ending a run's machines takes at most where nobody delays it (watchdog), in the cloud's time
MARKS = (50, 80)  # percent of a budget that are worth a note


@dataclass(frozen=True, slots=True)
class Cap:
    """One budget, now. `rate`: USD an hour of what lives and counts against it."""

    what: str
    budget: Decimal
    spent: Decimal
    rate: Decimal

    def seconds(self, more_hour: Decimal = Decimal(0)) -> float:
        """For how long it lasts, at this rate and `more_hour` USD an hour beside it."""
        rate = self.rate + more_hour
        left = self.budget - self.spent
        return float(left / rate * 3600) if rate else math.inf if left >= 0 else 0.0


def caps(ledger: Ledger, spec: RunSpec, phases: list[str]) -> Iterator[Cap]:
    """The budget of the run, with what earlier runs of its chain spent, and those of these phases."""
    if (whole := spec.plan.settings.budget_usd) is not None:
        spent = accounting.accrued_with_earlier(ledger, spec.run)
        yield Cap("the run", whole, spent, accounting.usd_hour(ledger, spec.run))
    for name in phases:
        if (cap := spec.plan.phase(name).budget_usd) is not None:
            spent = accounting.accrued_with_earlier(ledger, spec.run, name)
            yield Cap(name, cap, spent, accounting.usd_hour(ledger, spec.run, name))


def lasting_s(ledger: Ledger, spec: RunSpec, phase: str, more_hour: Decimal = Decimal(0)) -> float:
    """For how many real seconds the phase's budgets last at what lives now, and `more_hour` USD an hour beside it."""
    return min((cap.seconds(more_hour) for cap in caps(ledger, spec, [phase])), default=math.inf)


class Limits:
    """The limits of one run, looked at every second."""

    def __init__(self, ledger: Ledger, spec: RunSpec, clock: Clock) -> None:
        self._ledger, self._spec, self._clock = ledger, spec, clock
        self._anchor = self._ahead()
        self._told: set[str] = set()

    def reason(self) -> Reason | None:
        """Why the run is to stop now; None: it may go on. Notes when the wall clock was set, and what is spent."""
        self._note_jump()
        spec = self._spec
        if asked := self._ledger.runs.get(id=spec.run).stop:
            return Reason("interrupted", asked)
        under_way = [p for p in self._ledger.phases.all(run=spec.run) if p.state.is_under_way]
        for cap in caps(self._ledger, spec, [phase.name for phase in under_way]):
            if found := self._of_cap(cap):
                return found
        return next((found for phase in under_way if (found := self._of_phase(phase))), None)

    def _of_cap(self, cap: Cap) -> Reason | None:
        kept = cap.rate * Decimal(self._clock.scaled(ENDING_S)) / 3600
        used_up = cap.spent + kept > cap.budget
        for percent in MARKS:
            if cap.spent * 100 >= percent * cap.budget:
                self._tell(f"{percent} % of the budget of {cap.what} (${cap.budget}) is spent")
        if not used_up:
            return None
        self._tell(f"100 % of the budget of {cap.what} (${cap.budget}) is spent, or kept for ending what runs")
        ending = f", up to ${kept:.4f} more are needed to end what runs" if kept else ""
        whose = "the budget" if cap.what == "the run" else f"the budget of {cap.what}"
        return Reason("over_budget", f"${cap.spent:.4f} are spent{ending}; {whose} is ${cap.budget}")

    def _tell(self, text: str) -> None:
        """Note it, once in the life of the run, whoever drives it."""
        if text in self._told:
            return
        self._told.add(text)
        if not any(event.text == text for event in self._ledger.events.all(run=self._spec.run)):
            self._ledger.event(self._spec.run, text)

    def _of_phase(self, phase: PhaseRow) -> Reason | None:
        limits = self._spec.plan.phase(phase.name)
        if phase.started_at and self._ledger.now() - phase.started_at > limits.timeout:
            return Reason("failed", f"{phase.name} took longer than its time-out of {limits.timeout:.0f} s")
        return None

    def _ahead(self) -> float:
        return self._clock.wall().timestamp() - self._clock.monotonic()

    def _note_jump(self) -> None:
        jump = self._ahead() - self._anchor
        if abs(jump) > JUMP_S:
            self._anchor += jump
            way = "forward" if jump > 0 else "back"
            self._ledger.event(
                self._spec.run,
                f"this computer's clock was set {way} by {abs(jump):,.0f} s; time-outs and costs go on evenly",
            )
