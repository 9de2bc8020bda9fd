"""How a running story is asked to stop: a flag that every waiting loop looks at, never an exception from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from orchestrator.words.errors import GpuplanError, Interrupted, OverBudget, StepFailed
from orchestrator.words.ports import Clock

POLL_S = 0.05
_KINDS: dict[str, type[GpuplanError]] = {
    "interrupted": Interrupted,
    "over_budget": OverBudget,
    "failed": StepFailed,  # a phase took longer than its time-out
}


class Control:
    """The stop flag of one run in this process, and the question that it has for whoever looks on."""

    def __init__(self, clock: Clock) -> None:
        self.changed = clock.signal()  # notified when it is asked to stop, and by whoever has changed what others await
        self._stop: list[tuple[str, str]] = []  # no lock: a signal's handler adds to it, perhaps while another one does
        self.attended = False  # whether somebody is there to answer
        self.question: str | None = None
        self._answer = False

    def stop(self, kind: str, message: str) -> bool:
        """Ask the run to stop for that reason; the first reason stands. False: it was stopping already."""
        reason = (kind, message)
        self._stop.append(reason)
        self.changed.notify()
        return self._stop[0] is reason

    @property
    def stopping(self) -> bool:
        """Whether somebody asked."""
        return bool(self._stop)

    def check(self) -> None:
        """Raise the reason (Interrupted, OverBudget, StepFailed) if somebody asked."""
        if self._stop:
            kind, message = self._stop[0]
            raise _KINDS[kind](message)

    def pause(self, seconds: float) -> None:
        """Wait real seconds, or until the run is asked to stop."""
        self.changed.wait(lambda: self.stopping, seconds)

    def ask(self, question: str) -> bool:
        """Wait for the answer to a question. False: no, or nobody is there. Raises as `check` does."""
        if not self.attended:
            return False
        self.question = question
        while self.question is not None:
            self.check()
            time.sleep(POLL_S)
        self.check()  # Ctrl-C at the question is no answer
        return self._answer

    def answer(self, yes: bool) -> None:  # noqa: FBT001  it is what an answer is
        """Answer the question that waits."""
        self._answer, self.question = yes, None


class Watch(threading.Thread):
    """Looks every second for a reason to stop: what other processes ask, the budget, a phase's time-out."""

    def __init__(self, control: Control, reason: Callable[[], tuple[str, str] | None]) -> None:
        super().__init__(daemon=True, name="watch")
        self._control, self._reason = control, reason
        self._ended = threading.Event()

    def run(self) -> None:
        """Until ended, or the run stops."""
        while not self._control.stopping and not self._ended.wait(1.0):
            try:
                found = self._reason()
            except Exception:  # noqa: BLE001, S112  a busy ledger: the next second looks again
                continue
            if found:
                self._control.stop(*found)

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
