"""The cloud's own time: what takes it a second takes `time_scale` seconds here, so that a rehearsal can be fast."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
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


class HeldClock(CloudClock):
    """Time stands still until `advance`; sleepers wake in order, each at its own moment."""

    def __init__(self, start: datetime) -> None:
        super().__init__(1.0, lambda: self._moment)
        self._moment = start
        self._sleepers: list[tuple[datetime, int, asyncio.Event]] = []
        self._order = itertools.count()

    @property
    def asleep(self) -> int:
        """How many wait."""
        return len(self._sleepers)

    @property
    def next(self) -> datetime | None:
        """When the first of them wakes; None: nobody waits."""
        return self._sleepers[0][0] if self._sleepers else None

    async def sleep(self, cloud_seconds: float) -> None:
        """See CloudClock."""
        await self.sleep_until(self.later(cloud_seconds))

    async def sleep_until(self, moment: datetime) -> None:
        """See CloudClock."""
        sleeper = (moment, next(self._order), asyncio.Event())
        heapq.heappush(self._sleepers, sleeper)
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:  # it was given up
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def advance(self, moment: datetime, settle: Callable[[], Awaitable[None]]) -> None:
        """Let it become `moment` (never earlier). `settle` waits until everybody who was woken has acted."""
        await settle()
        while self._sleepers and self._sleepers[0][0] <= moment:
            due, _, event = heapq.heappop(self._sleepers)
            self._moment = max(due, self._moment)
            event.set()
            await settle()
        self._moment = max(moment, self._moment)


def stamp(moment: datetime) -> str:
    """The moment as RFC 3339 with a Z, as both vendors write it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
