"""Many things of one kind, several of them at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from orchestrator.words.waiting import Clock

T = TypeVar("T")
AT_ONCE = 8


def together(clock: Clock, work: Callable[[T], object], things: Iterable[T]) -> None:
    """Do `work` for each, AT_ONCE at the same time; the first error ends it when what is under way has ended."""
    waiting, failed = deque(things), list[Exception]()

    def go_on() -> None:
        while waiting and not failed:
            try:
                thing = waiting.popleft()
            except IndexError:
                return  # another one took the last
            try:
                work(thing)
            except Exception as error:
                failed.append(error)
                raise

    clock.gather([go_on] * min(AT_ONCE, len(waiting)))
