"""What stands before the emulated APIs: who may pass, and how often."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.rehearsal.clouds.clock import CloudClock
from orchestrator.rehearsal.clouds.wire import Reply, Request, text_reply

# The live quotas are not documented: these are the examples of the specification's header.
WINDOWS = {"minute": (60, 60), "hour": (3000, 3600), "day": (50_000, 86_400)}


def windows(seen: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Requests and seconds by window: those that were seen, and as above where none was."""
    return {name: (seen.get(name, quota), length) for name, (quota, length) in WINDOWS.items()}


@dataclass
class Quota:
    """RunPod's three windows, counted in cloud time."""

    clock: CloudClock
    windows: dict[str, tuple[int, int]] = field(default_factory=lambda: dict(WINDOWS))
    _counts: dict[str, tuple[datetime, int]] = field(default_factory=dict)

    def count(self) -> str | None:
        """Count one request. The name of the window that is used up, or None."""
        exceeded = None
        for name, (quota, length) in self.windows.items():
            began, used = self._counts.get(name, (self.clock.now(), 0))
            if self.clock.since(began) >= length:
                began, used = self.clock.now(), 0
            self._counts[name] = (began, used + 1)
            if used + 1 > quota:
                exceeded = exceeded or name
        return exceeded

    def reset_in(self, name: str) -> int:
        """Cloud seconds until a window begins anew, at least 1."""
        began, _ = self._counts.get(name, (self.clock.now(), 0))
        return max(1, int(self.windows[name][1] - min(self.clock.since(began), self.windows[name][1])))

    def headers(self) -> dict[str, str]:
        """RateLimit and RateLimit-Policy as the specification's examples write them."""
        left = [
            f'"{name}";r={max(0, quota - self._counts.get(name, (None, 0))[1])};t={self.reset_in(name)}'
            for name, (quota, _) in self.windows.items()
        ]
        policy = [f'"{name}";q={quota};w={length}' for name, (quota, length) in self.windows.items()]
        return {"RateLimit": ", ".join(left), "RateLimit-Policy": ", ".join(policy)}


@dataclass
class Pace:
    """At most `burst` requests in `burst * seconds` of cloud time; the vendor states the rate, not the shape.

    A burst of two lets a client pass that keeps the pace and is a few milliseconds early, as clocks are.
    """

    clock: CloudClock
    seconds: float
    burst: int = 2
    _taken: deque[datetime] = field(default_factory=deque)

    def allows(self) -> bool:
        """Count one request, unless it comes too early."""
        while self._taken and self.clock.since(self._taken[0]) >= self.burst * self.seconds:
            self._taken.popleft()
        if len(self._taken) >= self.burst:
            return False
        self._taken.append(self.clock.now())
        return True


def bearer(request: Request) -> str | None:
    """The key of an Authorization header of the Bearer kind, or None."""
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" and key.strip() else None


def basic_user(request: Request) -> str | None:
    """The user name of an Authorization header of the Basic kind (the password is not looked at), or None."""
    kind, _, coded = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(coded, validate=True).decode().partition(":")[0]
    except ValueError:
        return None


def front_door() -> Reply:
    """The vendor's front door, not its API: seen live for clients without a proper User-Agent, HTML and no JSON."""
    return text_reply(403, "error code: 1010", "text/html")


def nameless(request: Request) -> bool:
    """Whether the client has no User-Agent, or only that of Python's urllib."""
    agent = request.headers.get("User-Agent", "")
    return not agent or agent.startswith("Python-urllib")
