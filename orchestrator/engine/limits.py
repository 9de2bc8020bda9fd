"""What a run may not pass: somebody's word, the budget, a phase's time-out. And the lease that others wait for."""

from __future__ import annotations

from orchestrator.engine import accounting
from orchestrator.engine.control import Reason
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import PhaseRow
from orchestrator.words.spec import RunSpec
from orchestrator.words.waiting import Clock

LEASE_S = 180.0  # real seconds without renewal after which another run may take the volume
JUMP_S = 60.0  # by which the wall clock was set: less is its ordinary keeping of time


class Limits:
    """The limits of one run, looked at every second."""

    def __init__(self, ledger: Ledger, spec: RunSpec, clock: Clock) -> None:
        self._ledger, self._spec, self._clock = ledger, spec, clock
        self._anchor = self._ahead()

    def reason(self) -> Reason | None:
        """Why the run is to stop now; None: it may go on. Notes when the wall clock was set meanwhile."""
        self._note_jump()
        spec = self._spec
        if asked := self._ledger.runs.get(id=spec.run).stop:
            return Reason("interrupted", asked)
        budget = spec.plan.settings.budget_usd
        if budget is not None and (spent := accounting.accrued_with_earlier(self._ledger, spec.run)) > budget:
            return Reason("over_budget", f"${spent:.4f} are spent, the budget is ${budget}")
        under_way = [p for p in self._ledger.phases.all(run=spec.run) if p.state.is_under_way]
        return next((found for phase in under_way if (found := self._of_phase(phase))), None)

    def _of_phase(self, phase: PhaseRow) -> Reason | None:
        limits = self._spec.plan.phase(phase.name)
        if limits.budget_usd is not None:
            spent = accounting.accrued_with_earlier(self._ledger, phase.run, phase.name)
            if spent > limits.budget_usd:
                said = f"{phase.name}: ${spent:.4f} are spent, its budget is ${limits.budget_usd}"
                return Reason("over_budget", said)
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
