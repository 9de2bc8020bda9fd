"""Real time, and the cloud's time that runs beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

T = TypeVar("T")
_COUNTS_SLEEP = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS's monotonic clock is the only one there

LEAST_REAL_S = 15.0  # a fast rehearsal shortens deadlines, not what a busy computer needs to answer at all
MIN_TIME_SCALE = 1e-4  # below it a rehearsal would spin instead of wait


class SystemClock:
    """The wall clock. `time_scale` is real seconds per second of the cloud's time: 1 outside a rehearsal."""

    def __init__(self, time_scale: float = 1.0) -> None:
        if not MIN_TIME_SCALE <= time_scale <= 1.0:
            raise ValueError(f"time_scale is between {MIN_TIME_SCALE} and 1, not {time_scale}")
        self.time_scale = time_scale

    def now(self) -> datetime:
        """Aware UTC. It is never scaled: deadlines and bills are about real time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See ports.Clock."""
        return time.clock_gettime(_COUNTS_SLEEP)

    def sleep(self, seconds: float) -> None:
        """Wait `seconds` of the cloud's time; zero and less return at once."""
        if seconds > 0:
            time.sleep(seconds * self.time_scale)

    def pause(self, seconds: float) -> None:
        """Wait real seconds; zero and less return at once."""
        if seconds > 0:
            time.sleep(seconds)

    def real(self, seconds: float) -> float:
        """How many real seconds a deadline of that many cloud seconds allows."""
        return max(seconds * self.time_scale, min(seconds, LEAST_REAL_S))

    def scaled(self, seconds: float) -> float:
        """How many real seconds the cloud itself takes for that many of its own."""
        return seconds * self.time_scale

    def signal(self) -> ThreadSignal:
        """See ports.Clock."""
        return ThreadSignal()

    def spawn(self, name: str, body: Callable[[], None]) -> ThreadTask:
        """See ports.Clock."""
        return ThreadTask(name, body)

    def gather(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """See ports.Clock."""
        with ThreadPoolExecutor(max_workers=max(len(calls), 1)) as pool:
            futures = [pool.submit(call) for call in calls]
        return [future.result() for future in futures]


class ThreadSignal:
    """`ports.Signal` between real threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def notify(self) -> None:
        """Wake all that wait."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, until: Callable[[], bool], seconds: float | None = None) -> bool:
        """See ports.Signal."""
        with self._changed:
            return self._changed.wait_for(until, seconds)


class ThreadTask:
    """`ports.Task`: a daemon thread."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=body, daemon=True, name=name)
        self._thread.start()

    def join(self, seconds: float | None = None) -> bool:
        """See ports.Task."""
        self._thread.join(seconds)
        return not self._thread.is_alive()
