"""How a running story is asked to stop: a flag that every waiting loop looks at, never an exception from outside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.words.errors import GpuplanError, Interrupted, OverBudget, StepFailed
from orchestrator.words.waiting import Clock

LOOK_S = 1.0  # real seconds between two looks for a reason to stop
Why = Literal["interrupted", "over_budget", "failed"]
_ERRORS: Mapping[Why, type[GpuplanError]] = {
    "interrupted": Interrupted,
    "over_budget": OverBudget,
    "failed": StepFailed,  # a phase took longer than its time-out
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a run is to stop."""

    kind: Why
    message: str


class Control:
    """The stop flag of one run in this process, and the question that it has for whoever looks on."""

    def __init__(self, clock: Clock) -> None:
        self.changed = clock.signal()  # notified when it is asked to stop, and by whoever has changed what others await
        self._clock, self._since = clock, 0.0
        self._reasons: list[Reason] = []  # no lock: a signal's handler adds to it, perhaps while another one does
        self.attended = False  # whether somebody is there to answer
        self.question: str | None = None
        self._answer = False

    def stop(self, kind: Why, message: str) -> bool:
        """Ask the run to stop for that reason; the first reason stands. False: it was stopping already."""
        reason = Reason(kind, message)
        self._since = self._since or self._clock.monotonic()
        self._reasons.append(reason)
        self.changed.notify()
        return self._reasons[0] is reason

    @property
    def stopping(self) -> bool:
        """Whether somebody asked."""
        return bool(self._reasons)

    @property
    def stopping_s(self) -> float:
        """For how many real seconds the run has been stopping; 0: it is not."""
        return self._clock.monotonic() - self._since if self._reasons else 0.0

    def check(self) -> None:
        """Raise the reason (Interrupted, OverBudget, StepFailed) if somebody asked."""
        if self._reasons:
            reason = self._reasons[0]
            raise _ERRORS[reason.kind](reason.message)

    def pause(self, seconds: float) -> None:
        """Wait real seconds, or until the run is asked to stop."""
        self.changed.wait(lambda: self.stopping, seconds)

    def ask(self, question: str) -> bool:
        """Wait for the answer to a question. False: no, or nobody is there. Raises as `check` does."""
        if not self.attended:
            return False
        self.question = question
        self.changed.wait(lambda: self.question is None or self.stopping)
        self.check()  # Ctrl-C at the question is no answer
        return self._answer

    def answer(self, yes: bool) -> None:  # noqa: FBT001  it is what an answer is
        """Answer the question that waits."""
        self._answer, self.question = yes, None
        self.changed.notify()


class Watch:
    """Looks every second (`look_s`) for a reason to stop: what other processes ask, the budget, a phase's time-out."""

    def __init__(
        self, clock: Clock, control: Control, reason: Callable[[], Reason | None], look_s: float = LOOK_S
    ) -> None:
        self._control, self._reason, self._look_s = control, reason, look_s
        self._ended = False
        self._look()  # before anything begins: what a dead process left may have used its budget up
        self._task = clock.spawn("watch", self._go_on_looking)

    def _go_on_looking(self) -> None:
        while not self._control.changed.wait(lambda: self._ended or self._control.stopping, self._look_s):
            self._look()

    def _look(self) -> None:
        with contextlib.suppress(Exception):  # a busy ledger: the next second looks again
            if found := self._reason():
                self._control.stop(found.kind, found.message)

    def end(self) -> None:
        """Stop looking."""
        self._ended = True
        self._control.changed.notify()
        self._task.join()
