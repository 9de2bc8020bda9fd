"""A clock that is moved by hand: one thread runs at a time, a seed picks the next, and nobody waits for real."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

T = TypeVar("T")
BEGINNING = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)


class Stuck(AssertionError):
    """Every thread waits for another one: what each of them waits for is in the message."""


@dataclass(eq=False)
class _Thread:
    """One thread that the clock lets run or wait."""

    name: str
    life: object = None  # the process that it belongs to; None: nobody's, which never ends
    until: float | None = None  # when it may go on at the latest; None: when `ready` says so
    ready: Callable[[], bool] = lambda: True
    ended: bool = False
    baton: threading.Event = field(default_factory=threading.Event)

    def may_go(self, now: float) -> bool:
        """Whether it has nothing to wait for any more."""
        return not self.ended and ((self.until is not None and self.until <= now) or self.ready())


class ManualClock:
    """`waiting.Clock` for tests. Time stands while a thread runs, and moves on when all of them wait.

    The same seed gives the same order of threads. `time_scale` is real seconds for each of the cloud's.
    """

    def __init__(self, seed: int = 0, *, begins: datetime = BEGINNING, time_scale: float = 1.0) -> None:
        self._random = random.Random(seed)  # noqa: S311  an order of threads, no secret
        self._begins, self._seconds, self._jumped = begins, 0.0, 0.0
        self._scale = time_scale
        self._threads: list[_Thread] = []
        self._mine = threading.local()
        self._stuck: Stuck | None = None
        self._others: list[tuple[Callable[[], datetime | None], Callable[[], None]]] = []
        self.limit = 400 * 86400.0  # seconds after which a test is taken to wait for ever

    # -- waiting.Clock ----------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """See waiting.Clock."""
        return self._begins + timedelta(seconds=self._seconds)

    def wall(self) -> datetime:
        """See waiting.Clock."""
        return self.now() + timedelta(seconds=self._jumped)

    def monotonic(self) -> float:
        """See waiting.Clock."""
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """See waiting.Clock."""
        self.pause(seconds * self._scale)

    def pause(self, seconds: float) -> None:
        """See waiting.Clock."""
        self._wait(lambda: False, max(seconds, 0.0))

    def real(self, seconds: float) -> float:
        """See waiting.Clock."""
        return seconds * self._scale

    def scaled(self, seconds: float) -> float:
        """See waiting.Clock."""
        return seconds * self._scale

    def signal(self) -> ManualSignal:
        """See waiting.Clock."""
        return ManualSignal(self)

    def spawn(self, name: str, body: Callable[[], None], life: object = None) -> ManualTask:
        """See waiting.Clock. `life`: the process that it belongs to; None: its maker's."""
        thread = _Thread(name, life or self._adopt_caller().life)
        self._threads.append(thread)

        def run() -> None:
            thread.baton.wait()
            self._mine.thread = thread
            try:
                body()
            finally:
                thread.ended = True
                if thread in self._threads:  # else its process has ended meanwhile: somebody else's turn it is
                    self._threads.remove(thread)
                    self._hand_on(None)

        threading.Thread(target=run, daemon=True, name=name).start()
        return ManualTask(self, thread)

    def gather(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """See waiting.Clock."""
        ends: dict[int, T | BaseException] = {}

        def one(number: int, call: Callable[[], T]) -> None:
            try:
                ends[number] = call()
            except BaseException as error:  # noqa: BLE001  it is raised again by whoever gathers
                ends[number] = error

        tasks = [self.spawn(f"gathered {n}", lambda n=n, c=c: one(n, c)) for n, c in enumerate(calls)]  # type: ignore[misc]  # bound by default arguments
        for task in tasks:
            task.join()
        found = [ends[n] for n in range(len(calls))]
        for end in found:
            if isinstance(end, BaseException):
                raise end
        return [end for end in found if not isinstance(end, BaseException)]

    # -- the hand on the clock ------------------------------------------------------------------------------------

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; the others know nothing of it."""
        self._jumped += seconds

    def move_with(self, due: Callable[[], datetime | None], act: Callable[[], None]) -> None:
        """Stop at every moment at which something outside happens by itself (None: nothing will), and let it act."""
        self._others.append((due, act))

    @property
    def life(self) -> object:
        """The process that the caller belongs to."""
        return self._adopt_caller().life

    def end_life(self, life: object) -> None:
        """Kill a process: no thread of it goes on or cleans up. A caller that is one of them never returns."""
        mine = self._adopt_caller()
        self._threads[:] = [thread for thread in self._threads if thread.life is not life]
        if mine.life is life:
            self._hand_on(None)
            threading.Event().wait()

    def forget_threads(self) -> None:
        """After a fork: the others are gone, and the caller goes on alone."""
        self._threads.clear()
        self._mine = threading.local()

    def _adopt_caller(self) -> _Thread:
        thread: _Thread | None = getattr(self._mine, "thread", None)
        if thread is None:
            thread = self._mine.thread = _Thread(threading.current_thread().name)
            self._threads.append(thread)
        return thread

    def _wait(self, ready: Callable[[], bool], seconds: float | None) -> bool:
        """Let others run until `ready` or for so long; whether it was ready."""
        mine = self._adopt_caller()
        mine.ready, mine.until = ready, None if seconds is None else self._seconds + seconds
        self._hand_on(mine)
        held = ready()
        mine.ready, mine.until = (lambda: True), None
        return held

    def _hand_on(self, mine: _Thread | None) -> None:
        """Pick who runs next, moving time on if nobody may go yet; come back when it is `mine` (None: never)."""
        following = self._next()
        if following is not None and following is not mine:
            if mine:
                mine.baton.clear()
            following.baton.set()
            if mine:
                mine.baton.wait()
                mine.baton.clear()
        if self._stuck and mine:
            raise self._stuck

    def _next(self) -> _Thread | None:
        """The thread to run; None: there is none left."""
        if not self._threads:
            return None
        while not (able := [t for t in self._threads if t.may_go(self._seconds)]):
            times = [t.until for t in self._threads if t.until is not None]
            if self._act_before(min(times, default=None)):
                continue
            if not times or min(times) > self.limit:
                self._stuck = Stuck("nobody can go on: " + ", ".join(t.name for t in self._threads))
                return self._threads[0]  # whoever began: the test hears of it
            self._seconds = min(times)
        return able[0] if len(able) == 1 else self._random.choice(able)

    def _act_before(self, moment: float | None) -> bool:
        """Let happen outside what comes next, if it comes before that moment; whether anything did."""
        found = [(at, act) for due, act in self._others if (at := due()) is not None]
        if not found:
            return False
        at, act = min(found, key=lambda one: one[0])
        seconds = max((at - self._begins).total_seconds(), self._seconds)
        if moment is not None and moment <= seconds:
            return False
        self._seconds = seconds
        act()
        return True


class ManualSignal:
    """`waiting.Signal` on a manual clock: what is waited for is asked whenever another thread has run."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def notify(self) -> None:
        """See waiting.Signal. Whoever waits is asked anyway."""

    def wait(self, until: Callable[[], bool], seconds: float | None = None) -> bool:
        """See waiting.Signal."""
        return until() or self._clock._wait(until, seconds)  # noqa: SLF001  two halves of one thing


class ManualTask:
    """`waiting.Task` on a manual clock."""

    def __init__(self, clock: ManualClock, thread: _Thread) -> None:
        self._clock, self._thread = clock, thread

    def join(self, seconds: float | None = None) -> bool:
        """See waiting.Task."""
        return self._thread.ended or self._clock._wait(lambda: self._thread.ended, seconds)  # noqa: SLF001  likewise
