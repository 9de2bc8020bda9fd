"""One token after another: a step that was captured once and is played again, begun one ahead of the host."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Graph(Protocol):
    """Work that is recorded once and played again."""

    def capture(self, work: Callable[[], None]) -> None:
        """Record the work; whether it is done meanwhile is left open."""

    def replay(self) -> None:
        """Do it, behind what was asked for before."""


class Repeated:
    """Implements `Graph` where there is no card: the work itself, again."""

    def capture(self, work: Callable[[], None]) -> None:
        """Keep it."""
        self._work = work

    def replay(self) -> None:
        """Do it."""
        self._work()


class Bench(Protocol):
    """Where steps happen: the token to read and its position lie on the device, and each step replaces them."""

    def place(self, token: int, position: int) -> None:
        """Have the next step read this token at this position."""

    def fetch(self, slot: int) -> None:
        """Have the token that the latest step made copied to the host, behind it."""

    def wait(self, slot: int) -> int:
        """Return the token of this slot's fetch when it has come."""

    def columns(self) -> npt.NDArray[np.float32]:
        """Return the latest step's logits of this rank [1, rows]."""


class Steps:
    """Makes tokens by `work`: a whole pass over one token, and the choice of the next.

    While the host looks at one token the step behind it is under way already; it is thrown away if the host goes on
    otherwise: what it wrote into the cache lies behind all that is known, and is written anew.
    """

    def __init__(self, work: Callable[[], None], graph: Graph, bench: Bench, capacity: int) -> None:
        self._work, self._graph, self._bench, self._capacity = work, graph, bench, capacity
        self._captured = False
        self._slot = 0
        self._under_way: tuple[int, int] | None = None  # the token and the position that the step under way reads

    def token(self, token: int, position: int) -> int:
        """Read a token at its position; return the best one to follow."""
        if self._under_way != (token, position):
            self._begin(token, position)
            self._play()
        slot, further = self._slot, position + 1 < self._capacity
        if further:
            self._play()
        found = self._bench.wait(slot)
        self._under_way = (found, position + 1) if further else None
        return found

    def columns(self, token: int, position: int) -> npt.NDArray[np.float32]:
        """Read a token at its position; return this rank's logits [1, rows]."""
        self.forget()
        self._begin(token, position)
        self._play()
        return self._bench.columns()

    def forget(self) -> None:
        """Let the step that is under way be for nothing: the cache is about to hold something else."""
        self._under_way = None

    def _begin(self, token: int, position: int) -> None:
        self._bench.place(token, position)
        if not self._captured:
            self._work()  # compiles what is not compiled yet, which cannot happen while work is recorded
            self._graph.capture(self._work)
            self._captured = True
            self._bench.place(token, position)

    def _play(self) -> None:
        self._slot = 1 - self._slot
        self._graph.replay()
        self._bench.fetch(self._slot)
