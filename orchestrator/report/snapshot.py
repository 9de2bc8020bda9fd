"""What a view shows of a run at one moment, and what every view can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, RunState, StepState


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step. `id` is unique in the run and what `View.log` names; `name` is shown below its phase."""

    id: str
    name: str
    state: StepState
    started: datetime | None = None
    ended: datetime | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PhaseLine:
    """One phase with its steps in order. outcome None: it has not ended."""

    name: str
    state: PhaseState
    outcome: Outcome | None = None
    steps: tuple[StepLine, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MachineLine:
    """One machine. `what`: provider, type and place in words; price_hour None: nothing is known of its price."""

    name: str
    state: MachineState
    what: str = ""
    price_hour: Decimal | None = None
    detail: str = ""

    @property
    def costs(self) -> bool:
        """Whether it may still cost money."""
        return not self.state.is_final


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run. cost_usd is what has accrued; budget_usd None: no cap; started None: not yet."""

    run: str
    state: RunState
    phases: tuple[PhaseLine, ...]
    machines: tuple[MachineLine, ...]
    cost_usd: Decimal
    budget_usd: Decimal | None = None
    started: datetime | None = None
    events: tuple[tuple[int, str], ...] = ()  # rising number, and what happened, in words


class NewEvents:
    """Which events of a snapshot were not there at the first one and were not asked for yet."""

    def __init__(self) -> None:
        self._last: int | None = None

    def of(self, snapshot: Snapshot) -> list[str]:
        """Their words, oldest first."""
        last, self._last = self._last, max((number for number, _ in snapshot.events), default=0)
        return [] if last is None else [text for number, text in snapshot.events if number > last]


class View(Protocol):
    """Whoever looks on while a run goes on. All but `confirm` may be called from any thread."""

    def update(self, snapshot: Snapshot) -> None:
        """Show this state of the run from now on."""
        ...

    def log(self, step: str, line: str) -> None:
        """Take note that the step with this id printed `line`, raw, as it came from the machine."""
        ...

    def progress(self, step: str, text: str) -> None:
        """Take note of how far the step with this id is; what it prints later is newer."""
        ...

    def say(self, text: str) -> None:
        """Show a line that a person must see now, and leave it there."""
        ...

    def confirm(self, question: str, given_up: Callable[[], bool]) -> bool:
        """Ask on the terminal, and wait. False: no, or `given_up`, which is asked now and then."""
        ...
