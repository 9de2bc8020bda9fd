"""Processes of gpuplan on the bench: each a life of the clock's, that can be killed at any moment."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from orchestrator.testing.clock import ManualClock
from orchestrator.words.errors import UsageError


class Process:
    """One command of gpuplan's, under way, ended or killed."""

    def __init__(self, clock: ManualClock, name: str, body: Callable[[], object]) -> None:
        self._clock, self.name, self.killed = clock, name, False
        self.began = clock.monotonic()
        self.ended: float | None = None
        self.result: object = None
        self.error = ""
        self.life = object()
        clock.spawn(name, lambda: self._run(body), self.life)

    def _run(self, body: Callable[[], object]) -> None:
        try:
            self.result = body()
        except UsageError as error:  # a refusal, in words for people
            self.result = error
        except Exception:  # noqa: BLE001  whatever it is, it is to be seen
            self.error = traceback.format_exc()
        self.ended = self._clock.monotonic()

    @property
    def lives(self) -> bool:
        """Whether it goes on."""
        return not self.killed and self.ended is None

    def wait(self, seconds: float) -> bool:
        """Wait for its end, or for its death; whether it has come."""
        return self._clock.signal().wait(lambda: not self.lives, seconds)

    def kill(self) -> None:
        """SIGKILL. One of its own threads never comes back from here."""
        self.killed, self.ended = True, self._clock.monotonic()
        self._clock.end_life(self.life)
