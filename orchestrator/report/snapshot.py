"""What a view shows of a run at one moment, and what every view can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, RunState, StepState


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step. `id` is unique in the run and what `View.log` names; `name` is shown below its phase.

    `tries`: how often its command was begun; `attempts`: how often it may be.
    """

    id: str
    name: str
    state: StepState
    started: datetime | None = None
    ended: datetime | None = None
    detail: str = ""
    tries: int = 0
    attempts: int = 1

    @property
    def attempt(self) -> str:
        """`attempt 2 of 3`; "" for the first."""
        return f"attempt {self.tries} of {max(self.attempts, self.tries)}" if self.tries > 1 else ""


@dataclass(frozen=True, slots=True)
class PhaseLine:
    """One phase with its steps in order. outcome None: it has not ended. `usd`: of its machines so far."""

    name: str
    state: PhaseState
    outcome: Outcome | None = None
    steps: tuple[StepLine, ...] = ()
    detail: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class MachineLine:
    """One machine. `name`: as people say it, `long` as the provider knows it; price_hour None: it is not known.

    `what`: cards and place in words; `since`, `up`: when it was asked for, and reached.
    """

    name: str
    state: MachineState
    what: str = ""
    price_hour: Decimal | None = None
    detail: str = ""
    phase: str = ""
    provider: str = ""
    long: str = ""
    since: datetime | None = None
    up: datetime | None = None

    @property
    def costs(self) -> bool:
        """Whether it may still cost money."""
        return not self.state.is_final


@dataclass(frozen=True, slots=True)
class TransferLine:
    """Files on their way. `rate`: bytes a second since it began; None: nothing has moved yet."""

    phase: str
    kind: str  # upload, pull, code
    place: str
    files: int
    files_done: int
    bytes: int
    bytes_done: int
    rate: float | None = None
    since: datetime | None = None
    ended: datetime | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds until all of it is there, at its rate so far; None: unknown."""
        return (self.bytes - self.bytes_done) / self.rate if self.rate else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run. cost_usd is what has accrued; budget_usd None: no cap; started None: not yet.

    `volume_hour`: dollars an hour of its volumes; left_s, expected_usd None: not known, as in a rehearsal.
    """

    run: str
    state: RunState
    phases: tuple[PhaseLine, ...]
    machines: tuple[MachineLine, ...]
    cost_usd: Decimal
    budget_usd: Decimal | None = None
    started: datetime | None = None
    events: tuple[tuple[int, str], ...] = ()  # rising number, and what happened, in words
    plan: str = ""
    dry_run: bool = False
    ended: datetime | None = None
    transfers: tuple[TransferLine, ...] = ()
    volume_hour: Decimal = Decimal(0)
    left_s: float | None = None
    expected_usd: Decimal | None = None
    deadman_minutes: float | None = None  # after which a machine that hears nothing ends itself; None: it does not
    driven: bool = field(default=True)

    @property
    def machines_hour(self) -> Decimal:
        """Dollars an hour of the machines that may still cost money."""
        return sum((m.price_hour for m in self.machines if m.costs and m.price_hour), Decimal(0))


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
        """Take note of how far the step with this id is."""
        ...

    def say(self, text: str) -> None:
        """Show a line that a person must see now, and leave it there."""
        ...

    def confirm(self, question: str, given_up: Callable[[], bool]) -> bool:
        """Ask on the terminal, and wait. False: no, or `given_up`, which is asked now and then."""
        ...
