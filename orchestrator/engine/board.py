"""Where every step of a phase is, in memory: whoever waits for one sleeps until a step moves, and reads no table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from orchestrator.engine.context import Context
from orchestrator.words.lifecycle import StepState

T = TypeVar("T")


class Board:
    """The states of one phase's steps on one attempt's machines.

    It begins with what the ledger says; from then on every move of such a step comes through this process, and is
    told here after the ledger has it.
    """

    def __init__(self, context: Context, phase: str) -> None:
        self._control, self._changed = context.control, context.control.changed  # a stop wakes those who wait, too
        self._states = {row.id: row.state for row in context.ledger.steps.all(run=context.run, phase=phase)}

    def tell(self, step: str, state: StepState) -> None:
        """A step has moved. Only what somebody may wait for wakes anybody: that it has ended, or answers."""
        self._states[step] = state
        if state.has_ended:
            self._changed.notify()

    def wait_for(self, look: Callable[[Mapping[str, StepState]], T | None]) -> T:
        """What `look` makes of the states, once it makes something of them. Raises as control.check does."""
        found: T | None = None

        def over() -> bool:
            nonlocal found
            found = look(self._states)
            return found is not None or self._control.stopping

        self._changed.wait(over)
        self._control.check()
        assert found is not None
        return found

    def settle(self, holds: Callable[[Mapping[str, StepState]], bool], seconds: float) -> None:
        """Wait until `holds`; once the run is asked to stop, for at most so many real seconds more."""
        self._changed.wait(lambda: self._control.stopping or holds(self._states))
        self._changed.wait(lambda: holds(self._states), seconds)
