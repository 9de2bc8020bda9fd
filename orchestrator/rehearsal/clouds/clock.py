"""The cloud's own time: what takes it a second takes `time_scale` seconds here, so that a rehearsal can be fast."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class CloudClock:
    """Delays in cloud seconds. Moments, and with them every bill, are real: aware UTC from `now`."""

    time_scale: float = 1.0
    now: Callable[[], datetime] = _utc_now

    async def sleep(self, cloud_seconds: float) -> None:
        """Wait that long in the cloud's time."""
        await asyncio.sleep(cloud_seconds * self.time_scale)

    async def sleep_until(self, moment: datetime) -> None:
        """Wait for a moment that a client named: not scaled."""
        await asyncio.sleep(max(0.0, (moment - self.now()).total_seconds()))

    def later(self, cloud_seconds: float) -> datetime:
        """The moment that is so far ahead."""
        return self.now() + timedelta(seconds=cloud_seconds * self.time_scale)

    def since(self, moment: datetime) -> float:
        """Cloud seconds since a moment; a scale of 0 is a cloud that is always long past everything."""
        real = (self.now() - moment).total_seconds()
        return real / self.time_scale if self.time_scale > 0 else float("inf")


def stamp(moment: datetime) -> str:
    """The moment as RFC 3339 with a Z, as both vendors write it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
