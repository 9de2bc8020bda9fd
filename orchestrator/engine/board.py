"""Where every step and crew of a phase is, in memory: whoever waits for one sleeps until one moves, reads no table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from orchestrator.engine.context import Context
from orchestrator.engine.effects import Go
from orchestrator.plan import Crew, crews_for
from orchestrator.words.lifecycle import StepState

T = TypeVar("T")
UP = "up"
States = Mapping[str, StepState]


class Board:
    """The states of one phase's steps, and of its crews, on one attempt's machines.

    It begins with what the ledger says; from then on every move of such a step comes through this process, and is
    told here after the ledger has it. Crews are told of anew by each process.
    """

    def __init__(self, context: Context, phase: str) -> None:
        self._clock = context.clock
        self._control, self._changed = context.control, context.control.changed  # a stop wakes those who wait, too
        rows = context.ledger.steps.all(run=context.run, phase=phase)
        self._states = {row.id: row.state for row in rows}
        now = self._clock.monotonic() - context.now()
        self.began = {row.id: row.started_at + now for row in rows if row.started_at}  # step -> monotonic seconds
        self._crews = context.crews(phase)
        self.crews: dict[str, str] = {self._crews[0].name: UP}  # name -> UP, or why it is not there
        self.missed: set[str] = set()  # of those that are not there: the crews whose machines were lost
        self.wanted: set[str] = set()  # steps that can go on as soon as their machines are there
        self._writers: dict[str, str] = {}  # step that creates files now -> the crew on whose machine

    def tell(self, step: str, state: StepState) -> None:
        """A step has moved. Only what somebody may wait for wakes anybody: that it begins, has ended, or answers."""
        self._states[step] = state
        if state == StepState.RUNNING:
            self.began.setdefault(step, self._clock.monotonic())
        if state.has_ended or state == StepState.RUNNING:
            self._changed.notify()

    def look(self) -> dict[str, StepState]:
        """The states now."""
        return dict(self._states)

    def tell_crew(self, crew: str, word: str, *, lost: bool = False) -> None:
        """A crew is UP, or why it is not there: for good, or `lost`, so that the phase's next attempt has another."""
        self.crews[crew] = word
        if lost:
            self.missed.add(crew)
        self._changed.notify()

    def await_crews(self, step: str, crews: Sequence[Crew]) -> Go:
        """Wait until the machines of a step that waits for nothing else are there.

        Nothing new starts once something has failed. What a lost crew was to do is done in the next attempt.
        """
        self.wanted.add(step)
        self._changed.notify()
        return self.wait_for(partial(self._have, [crew.name for crew in crews]))

    def _have(self, crews: Sequence[str], states: States) -> Go | None:
        words = [self.crews.get(crew) for crew in crews]
        if all(word == UP for word in words):
            return Go(go=True)
        if failed := next((step for step, state in states.items() if state == StepState.FAILED), ""):
            return Go(go=False, state=StepState.SKIPPED, why=f"{failed} failed")
        for crew, word in zip(crews, words, strict=True):
            if word not in (None, UP):
                lost = StepState.LOST if crew in self.missed else StepState.SKIPPED
                return Go(go=False, state=lost, why=str(word))
        return None

    def wait_for(self, look: Callable[[States], T | None]) -> T:
        """What `look` makes of the states, once it makes something of them. Raises as control.check does."""
        found = self.wait(look)
        assert found is not None
        return found

    def wait(self, look: Callable[[States], T | None], seconds: float | None = None) -> T | None:
        """As `wait_for`; None: real `seconds` were over before."""
        found: T | None = None

        def over() -> bool:
            nonlocal found
            found = look(self._states)
            return found is not None or self._control.stopping

        self._changed.wait(over, seconds)
        self._control.check()
        return found

    def settle(self, holds: Callable[[States], bool], seconds: float) -> None:
        """Wait until `holds`; once the run is asked to stop, for at most so many real seconds more."""
        self._changed.wait(lambda: self._control.stopping or holds(self._states))
        self._changed.wait(lambda: holds(self._states), seconds)

    @contextmanager
    def writing(self, step: str) -> Iterator[object]:
        """Create files while no machine of another crew does: what one writes another may not have seen yet."""
        mine = crews_for(self._crews, step)[0].name

        def begin(_states: States) -> bool | None:  # looked and begun in one: nobody else begins in between
            if any(other != mine for other in self._writers.values()):
                return None
            self._writers[step] = mine
            return True

        try:
            yield self.wait_for(begin)
        finally:
            self._writers.pop(step, None)
            self._changed.notify()


class Boards:
    """The boards of a run's phases, one for each attempt."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._boards: dict[tuple[str, int], Board] = {}

    def of(self, phase: str, attempt: int) -> Board:
        """The board of that attempt."""
        board = self._boards.get((phase, attempt))
        if board is None:  # of two that look at the same time one wins, and a move is told to the one that won
            board = self._boards.setdefault((phase, attempt), Board(self._context, phase))
        return board
