"""Keeps all processes that share one API key under the vendor's rate limits.

Each call reserves the next free moment in a small file under a lock, lets go of the lock, and waits for its moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from orchestrator.providers.http import RateLimited

T = TypeVar("T")

MARGIN = 1.1  # requests sent a second apart may arrive closer together
PATIENCE_S = 180.0  # cloud seconds that one call waits out 429s
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 2.0, 30.0
FURTHEST_S = 600.0  # a moment further ahead than this was written under another clock: ignored


class Pacer:
    """Spaces calls by kind. `intervals` are seconds of the cloud's time between two calls of each kind.

    Every call is also one of the kind "any". `file` is shared between processes; None: this process only.
    """

    def __init__(
        self,
        intervals: dict[str, float],
        file: Path | None,
        time_scale: float,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._intervals = intervals
        self._file = file
        self._scale = time_scale
        self._now, self._sleep = now, sleep
        self._lock = threading.Lock()
        self._own: dict[str, float] = {}

    def call(self, send: Callable[[], T], kind: str = "any") -> T:
        """Wait for a free moment, send, and wait out 429s up to PATIENCE_S; then RateLimited."""
        backoff, waited = FIRST_BACKOFF_S, 0.0
        while True:
            self._wait(kind)
            try:
                return send()
            except RateLimited as refusal:
                pause = max(refusal.retry_after or backoff, self._intervals[kind])
                if waited + pause > PATIENCE_S:
                    raise
                self._hold_off(pause)
                waited += pause
                backoff = min(2 * backoff, LONGEST_BACKOFF_S)

    def _wait(self, kind: str) -> None:
        with self._moments() as moments:
            now = self._now()
            kinds = {"any", kind}
            at = max([now, *(moments.get(k, 0.0) for k in kinds)])
            if at - now > FURTHEST_S:
                at = now
            for k in kinds:
                moments[k] = at + self._intervals[k] * MARGIN * self._scale
        self._sleep(max(0.0, at - now))

    def _hold_off(self, seconds: float) -> None:
        """Let nobody send for a while: the limit is the key's, not the caller's."""
        with self._moments() as moments:
            moments["any"] = max(moments.get("any", 0.0), self._now() + seconds * self._scale)

    @contextlib.contextmanager
    def _moments(self) -> Iterator[dict[str, float]]:
        """When the next call of each kind may be sent (Unix seconds), locked; changes are kept."""
        with self._lock:
            if self._file is None:
                yield self._own
                return
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            with os.fdopen(handle, "r+", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                moments = _parse(file.read())
                yield moments
                file.seek(0)
                file.truncate()
                json.dump(moments, file)


def _parse(text: str) -> dict[str, float]:
    """An empty or broken file is a new one: at worst a request comes too early and is answered with 429."""
    try:
        found = json.loads(text)
        return {str(k): float(v) for k, v in found.items()}
    except (ValueError, AttributeError, TypeError):
        return {}
