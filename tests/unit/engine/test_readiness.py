"""A machine becomes ready layer by layer: each has its own time from the one before, and its own words."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engine.effects import NotReached, Reached
from orchestrator.engine.readiness import wait
from orchestrator.transport.refusals import AgentFailed, GpuFailed
from orchestrator.words.errors import ConnectionLost, KeyRefused, NobodyListens
from orchestrator.words.ports import Address, MachineStatus, MachineView
from tests.unit.engine.stepping import START, Cloud, SteppingClock, context, machine

BOOTS_S = 600.0
AT = Address("192.0.2.7", 22, "root")


class Booting(Cloud):
    """A cloud whose machine has its address after ten minutes."""

    rented = shows_gpu = True

    def __init__(self, clock: SteppingClock) -> None:
        super().__init__(there={"1": "m"})
        self._clock = clock

    def machine(self, machine_id: str) -> MachineView | None:
        up = self._clock.passed >= BOOTS_S
        status = MachineStatus.READY if up else MachineStatus.BOOTING
        return MachineView(machine_id, "m", status, AT if up else None, None, Decimal(36), "A", status.upper())

    def last_words(self, machine_id: str) -> list[str]:
        return [f"{machine_id}: pulling the image"]


class Agent:
    """What answers once it is reached: `hello` and `probe` raise what they are given."""

    def __init__(self, hello: Exception | None, probe: Exception | None) -> None:
        self._hello, self._probe = hello, probe

    def hello(self) -> Any:
        if self._hello:
            raise self._hello
        return SimpleNamespace(time=START.timestamp(), gpus=(SimpleNamespace(name="A100"),), cores=8)

    def probe(self, gpus: int) -> None:
        if self._probe:
            raise self._probe


def waited(tmp_path: Path, *, hello: Exception | None = None, probe: Exception | None = None) -> tuple[Any, float]:
    """How the wait for that machine ended, and after how many seconds."""
    clock = SteppingClock()
    found = context(tmp_path, clock, Booting(clock))
    found.spec.plan = SimpleNamespace(settings=SimpleNamespace(readiness_seconds=900.0))
    found.event = lambda text, **_: None
    found.agents = lambda _name: Agent(hello, probe)
    row = machine("m", provider_id="1", gpus=1, state="CREATED")
    found.ledger.machines.put(row)
    return wait(found, row), clock.passed


@pytest.mark.parametrize(
    ("hello", "probe", "after_s", "said"),
    [
        (NobodyListens("cannot connect"), None, 300, f"5 min: it lacked a TCP connection at {AT}; last seen: cannot"),
        (ConnectionLost("no banner"), None, 600, f"5 min: it lacked an answer over SSH at {AT}; last seen: no banner"),
        (KeyRefused("not our key"), None, 600, f"5 min: it lacked an answer over SSH at {AT}; last seen: not our key"),
        (AgentFailed("broken", "disk full"), None, 180, "3 min: it lacked a Python and a disk that work; last seen:"),
        (None, GpuFailed("no_gpu", "probe: no device"), 180, "3 min: it lacked a driver that knows its GPUs; last"),
        (None, GpuFailed("gpu_fault", "error 802"), 180, "3 min: it lacked a CUDA call on each of its GPUs; last"),
    ],
)
def test_each_layer_has_a_deadline_and_words(
    tmp_path: Path, hello: Exception | None, probe: Exception | None, after_s: float, said: str
):
    """TCP, SSH, the agent's own ground, driver, CUDA: what was lacking, for how long, what was seen."""
    end, passed = waited(tmp_path, hello=hello, probe=probe)
    assert isinstance(end, NotReached)
    assert f"was not ready within {said}" in end.why
    assert BOOTS_S <= passed <= BOOTS_S + after_s + 60
    unreached = isinstance(hello, ConnectionLost)
    assert end.nowhere == unreached
    assert ("log of its start ends" in end.why) == unreached


def test_a_machine_that_shows_all_layers_is_reached(tmp_path: Path):
    """It may take its fifteen minutes to an address."""
    end, passed = waited(tmp_path)
    assert isinstance(end, Reached)
    assert passed == BOOTS_S
