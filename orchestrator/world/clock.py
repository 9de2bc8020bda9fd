"""Real time, and the cloud's time that runs beside it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

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

    def sleep(self, seconds: float) -> None:
        """Wait `seconds` of the cloud's time; zero and less return at once."""
        if seconds > 0:
            time.sleep(seconds * self.time_scale)

    def real(self, seconds: float) -> float:
        """How many real seconds a deadline of that many cloud seconds allows."""
        return max(seconds * self.time_scale, min(seconds, LEAST_REAL_S))

    def scaled(self, seconds: float) -> float:
        """How many real seconds the cloud itself takes for that many of its own."""
        return seconds * self.time_scale
