"""A clock that moves when somebody waits, for what runs in one thread; and a context around a real ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orchestrator.engine.control import Control
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import ChargeRow, MachineRow
from orchestrator.words.errors import ProviderUnavailable
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.provider import MachineStatus, MachineView

START = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class SteppingClock:
    """`waiting.Clock` without threads: waiting moves it, and nothing else does. `ahead`: by which the wall was set."""

    passed: float = 0.0
    ahead: float = 0.0
    waits: list[float] = field(default_factory=list)
    at: dict[float, Callable[[], None]] = field(default_factory=dict)  # what happens once so much has passed

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def wall(self) -> datetime:
        return self.now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return 1000 + self.passed

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.passed += seconds
        for moment in [m for m in self.at if m <= self.passed]:
            self.at.pop(moment)()

    pause = sleep

    def real(self, seconds: float) -> float:
        return seconds

    scaled = real

    def signal(self) -> Any:
        def wait(until: Callable[[], bool], seconds: float | None = None) -> bool:
            if not until() and seconds:
                self.sleep(seconds)
            return until()

        return SimpleNamespace(notify=lambda: None, wait=wait)

    def spawn(self, name: str, body: Callable[[], None]) -> Any:
        raise AssertionError(f"{name} would need a thread")

    def gather(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        return [call() for call in calls]


@dataclass
class Cloud:
    """As much of `Provider` as ending needs: what is listed, and how often a request is answered with 503."""

    there: dict[str, str] = field(default_factory=dict)  # id -> name
    refusals: int = 0
    asked: list[str] = field(default_factory=list)
    name = "p"
    list_lag_s = 0.0

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        if self.refusals:
            self.refusals -= 1
            raise ProviderUnavailable("503")

    def machines(self) -> list[MachineView]:
        self._answer("list")
        return [_view(i, name) for i, name in self.there.items()]

    def machine(self, machine_id: str) -> MachineView | None:
        self._answer("get")
        return _view(machine_id, self.there[machine_id]) if machine_id in self.there else None

    def destroy(self, machine_id: str) -> None:
        self._answer("destroy")
        self.there.pop(machine_id, None)


def _view(machine_id: str, name: str) -> MachineView:
    return MachineView(machine_id, name, MachineStatus.READY, None, None, None, "A", "RUNNING")


def context(folder: Path, clock: SteppingClock, cloud: Cloud | None = None) -> Any:
    """A run called 1101-aaaa of owner abcdefgh, as far as those parts of the engine that end things ask."""
    ledger = Ledger(f"sqlite:///{folder}/gpuplan.db", lambda: clock.now().timestamp())
    spec = SimpleNamespace(run="1101-aaaa", owner="abcdefgh")
    return SimpleNamespace(
        run=spec.run, spec=spec, folder=folder, ledger=ledger, clock=clock, control=Control(clock),
        provider=cloud or Cloud(), now=ledger.now, event=lambda text: ledger.event(spec.run, text),
    )  # fmt: skip


def machine(name: str, **values: Any) -> MachineRow:
    """A machine of that run, asked for at the clock's start."""
    given: dict[str, Any] = {
        "run": "1101-aaaa", "phase": "only", "request": "1.0.0", "node": 0, "provider": "p", "type_id": "t", "gpu": "",
        "gpus": 0, "place": "A", "price_hour": 36, "state": MachineState.REQUESTED,
        "requested_at": START.timestamp(), "sent_at": START.timestamp(),
    }  # fmt: skip
    return MachineRow(name=name, **(given | values))


def charge(name: str, until: float | None = None) -> ChargeRow:
    """That the phase pays for it since the clock's start."""
    return ChargeRow(machine=name, run="1101-aaaa", phase="only", since=START.timestamp(), until=until)
