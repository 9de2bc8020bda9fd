"""Real time, the even line of it that the ledger counts in, and the cloud's time that runs beside it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_COUNTS_SLEEP = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS's monotonic clock is the only one there

LEAST_REAL_S = 15.0  # a fast rehearsal shortens deadlines, not what a busy computer needs to answer at all
MIN_TIME_SCALE = 1e-4  # below it a rehearsal would spin instead of wait
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def monotonic() -> float:
    """Seconds that never go back and count the time that the computer slept."""
    return time.clock_gettime(_COUNTS_SLEEP)


class Timeline:
    """Unix seconds that go on evenly: the wall clock's when the line was anchored, whoever sets that clock later.

    What is counted in it (spans, costs, time-outs) is neither stretched nor hidden by a jump.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = monotonic,
        file: Path | None = None,
    ) -> None:
        """`file`: where the anchor is shared by all processes of this boot; None: it is this process's own."""
        self._wall, self._monotonic, self._file = wall, monotonic, file
        self._boot = _BOOT.read_text().strip() if file and _BOOT.exists() else ""
        self._anchor = self._shared()
        if self._anchor is None:
            self.anchor()

    def __call__(self) -> float:
        """Now."""
        assert self._anchor is not None
        return self._anchor + self._monotonic()

    def anchor(self) -> None:
        """Begin anew at the wall clock: between runs, and after a boot."""
        self._anchor = self._wall() - self._monotonic()
        if self._file and self._boot:
            with contextlib.suppress(OSError):  # a full disk: the line is this process's own then
                new = self._file.with_name(f"{self._file.name}.{os.getpid()}")
                new.write_text(f"{self._boot} {self._anchor!r}\n")
                new.replace(self._file)

    def _shared(self) -> float | None:
        """The anchor that another process of this boot has set; None: there is none."""
        if self._file and self._boot:
            with contextlib.suppress(OSError, ValueError):
                boot, anchor = self._file.read_text().split()
                return float(anchor) if boot == self._boot else None
        return None


class SystemClock:
    """The wall clock. `time_scale` is real seconds per second of the cloud's time: 1 outside a rehearsal."""

    def __init__(self, time_scale: float = 1.0, timeline: Timeline | None = None) -> None:
        if not MIN_TIME_SCALE <= time_scale <= 1.0:
            raise ValueError(f"time_scale is between {MIN_TIME_SCALE} and 1, not {time_scale}")
        self.time_scale = time_scale
        self._timeline = timeline or Timeline()

    def now(self) -> datetime:
        """See waiting.Clock. It is never scaled: deadlines and bills are about real time."""
        return datetime.fromtimestamp(self._timeline(), UTC)

    def wall(self) -> datetime:
        """See waiting.Clock."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See waiting.Clock."""
        return monotonic()

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
        """See waiting.Clock."""
        return ThreadSignal()

    def spawn(self, name: str, body: Callable[[], None]) -> ThreadTask:
        """See waiting.Clock."""
        return ThreadTask(name, body)

    def gather(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """See waiting.Clock."""
        if len(calls) == 1:  # most steps run on one machine
            return [calls[0]()]
        with ThreadPoolExecutor(max_workers=max(len(calls), 1)) as pool:
            futures = [pool.submit(call) for call in calls]
        return [future.result() for future in futures]


class ThreadSignal:
    """`waiting.Signal` between real threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def notify(self) -> None:
        """Wake all that wait."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, until: Callable[[], bool], seconds: float | None = None) -> bool:
        """See waiting.Signal."""
        with self._changed:
            return self._changed.wait_for(until, seconds)


class ThreadTask:
    """`waiting.Task`: a daemon thread."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=body, daemon=True, name=name)
        self._thread.start()

    def join(self, seconds: float | None = None) -> bool:
        """See waiting.Task."""
        self._thread.join(seconds)
        return not self._thread.is_alive()
