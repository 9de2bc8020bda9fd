"""What bytes take on the bench: resources of a given rate, shared evenly by all that uses them at the same time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from orchestrator.words.waiting import Clock

Move = tuple[str, float]  # resource, GB; "": nothing that others slow down, seconds
AS_GOOD_AS_OVER = 1e-6  # seconds


class Flow:
    """Moves one after the other."""

    def __init__(self, seconds: Sequence[Move]) -> None:
        """`seconds`: of each move, alone."""
        self.left = list(seconds)
        self.all = sum(took for _, took in seconds)

    @property
    def progress(self) -> float:
        """0 to 1."""
        return 1 - sum(took for _, took in self.left) / self.all if self.all else 1.0


class Traffic:
    """All that moves on a bench."""

    def __init__(self, clock: Clock, mb_per_second: Mapping[str, float], sizes: Mapping[str, float]) -> None:
        """`sizes`: path below the workspace -> GB that the file stands for; others weigh nothing."""
        self._clock, self._rates, self.sizes = clock, mb_per_second, sizes
        self._flows: dict[str, Flow] = {}
        self._at = clock.monotonic()
        self._numbers = itertools.count()

    def begin(self, name: str, moves: Sequence[Move]) -> Flow:
        """Something moves from now on."""
        self._go_on()
        alone = [(where, much * 1000 / self._rates[where] if where else much) for where, much in moves]
        flow = self._flows[name] = Flow(alone)
        return flow

    def end(self, name: str) -> None:
        """It moves no more."""
        self._go_on()
        self._flows.pop(name, None)

    def ends(self, name: str) -> float:
        """Monotonic seconds at which it is through, if nothing else begins."""
        self._go_on()
        copies = {n: list(flow.left) for n, flow in self._flows.items()}
        at = self._at
        while copies.get(name):
            at += _advance(copies, float("inf"))
        return at

    def wait(self, moves: Sequence[Move], beside: Sequence[Move] = ()) -> None:
        """Move something, and something else at the same time, and come back when both are through."""
        names = []
        for one in (moves, beside):
            if one:
                names.append(f"wait {next(self._numbers)}")
                self.begin(names[-1], one)
        while (left := max((self.ends(name) for name in names), default=0.0) - self._clock.monotonic()) > 0:
            self._clock.pause(left)
        for name in names:
            self.end(name)

    def _go_on(self) -> None:
        """Bring everything to where it is by now."""
        now = self._clock.monotonic()
        flows = {name: flow.left for name, flow in self._flows.items()}
        while self._at < now and any(flows.values()):
            self._at += _advance(flows, now - self._at)
        self._at = now


def _advance(flows: Mapping[str, list[Move]], most: float) -> float:
    """Let time pass until the first move is through, `most` at most; return how much."""
    moving = [left for left in flows.values() if left]
    users: dict[str, int] = {}
    for (where, _), *_ in moving:
        users[where] = users.get(where, 0) + 1
    slower = {where: count if where else 1 for where, count in users.items()}
    passed = min([most, *(took * slower[where] for (where, took), *_ in moving)])
    for left in moving:
        where, took = left[0]
        rest = took - passed / slower[where]
        left[0:1] = [(where, rest)] if rest > AS_GOOD_AS_OVER else []
    return passed
