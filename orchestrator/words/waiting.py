"""The port through which all time and waiting goes: one adapter for real time, one that is moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


class Signal(Protocol):
    """What threads tell each other: something has changed, look again."""

    def notify(self) -> None:
        """Wake all that wait."""
        ...

    def wait(self, until: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until `until()` holds, asked now and after every notify; False: real `seconds` are over before it did.

        seconds None: as long as it takes.
        """
        ...


class Task(Protocol):
    """A thread that was started by the clock."""

    def join(self, seconds: float | None = None) -> bool:
        """Wait for its end, at most so many real seconds; whether it has ended."""
        ...


class Clock(Protocol):
    """Time, waiting and threads: the only ones that the engine uses, so that a rehearsal can be fast, a test exact."""

    def now(self) -> datetime:
        """Aware UTC: what is written down and shown. It goes on evenly when somebody sets the wall clock."""
        ...

    def wall(self) -> datetime:
        """Aware UTC as the wall clock says, which may jump: for deadlines that others keep by theirs."""
        ...

    def monotonic(self) -> float:
        """Real seconds from some moment on; it never goes back, and counts the time that the computer slept."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait that long in the cloud's time: a rehearsal multiplies it by its time_scale."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait that long in real time."""
        ...

    def real(self, seconds: float) -> float:
        """How many real seconds a deadline of that many cloud seconds allows; enough for a busy computer to answer."""
        ...

    def scaled(self, seconds: float) -> float:
        """How many real seconds the cloud itself takes for that many of its own."""
        ...

    def signal(self) -> Signal:
        """A new signal."""
        ...

    def spawn(self, name: str, body: Callable[[], None]) -> Task:
        """Run `body` in a thread of that name that does not keep the process alive."""
        ...

    def gather(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Make all calls at the same time and return their results in order; the first error, when all have ended."""
        ...
