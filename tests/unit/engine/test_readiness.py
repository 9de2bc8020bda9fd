"""A machine becomes ready layer by layer: each has its own time from the one before, and its own words."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engine.effects import NotReached, Reached
from orchestrator.engine.readiness import ADDRESS, TCP, Progress, _note_skew, _too_dear, wait
from orchestrator.transport.refusals import AgentFailed, GpuFailed
from orchestrator.words.errors import ConnectionLost, KeyRefused, NobodyListens
from orchestrator.words.provider import Address, MachineStatus, MachineView
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
    found.phase = lambda _name: SimpleNamespace(phase=SimpleNamespace(max_usd_hour=None))
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
        (None, ConnectionLost("cut off"), 180, "3 min: it lacked a driver that knows its GPUs; last seen: cut off"),
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


def test_an_address_has_no_more_time_after_a_sign_of_life():
    """Both within the same minutes; the next layer begins anew, unless all are to be there within one time."""
    for in_all, late in ((False, [False, True, False]), (True, [False, True, True])):
        clock, seen = SteppingClock(), list[bool]()
        progress = Progress(clock, 900.0, in_all=in_all)
        for layer, after_s in ((ADDRESS, 800), (ADDRESS, 200), (TCP, 0)):
            clock.sleep(after_s)
            progress.come_to(layer)
            seen.append(progress.is_late)
        assert seen == late


def test_a_machine_that_shows_all_layers_is_reached(tmp_path: Path):
    """It may take its fifteen minutes to an address."""
    end, passed = waited(tmp_path)
    assert isinstance(end, Reached)
    assert passed == BOOTS_S


@pytest.mark.parametrize(
    ("its", "said"),
    [(60, None), (61, "61 s ahead of"), (-60, None), (-61, "61 s behind"), (3600, "3,600 s ahead of")],
)
def test_a_clock_that_is_more_than_a_minute_off_is_said(tmp_path: Path, its: float, said: str | None):
    """A minute is nobody's business; more makes logs and signatures wrong, ahead or behind."""
    made = context(tmp_path, SteppingClock())
    _note_skew(made, machine("m"), START.timestamp() + its, START.timestamp())
    events = [event.text for event in made.ledger.events.all()]
    assert [text.split(" this computer")[0] for text in events] == ([f"m: its clock is {said}"] if said else [])


@pytest.mark.parametrize(
    ("price", "most", "charged", "refused"),
    [
        ("36", "40", "36", False), (None, "40", "36", False), ("0", "40", "36", False), ("20", "40", "36", False),
        ("38", "40", "38", False), ("40", "40", "40", False), ("41", "40", "41", True), ("41", None, "41", False),
    ],
)  # fmt: skip
def test_a_machine_is_charged_at_what_its_provider_says(
    tmp_path: Path, price: str | None, most: str | None, charged: str, *, refused: bool
):
    """More than was offered is what it costs; more than the phase may pay ends it; less is not believed."""
    made = context(tmp_path, SteppingClock())
    named = SimpleNamespace(max_usd_hour=2 * Decimal(most) if most else None)  # of two nodes together
    made.phase = lambda _name: SimpleNamespace(phase=named)
    made.crew_of = lambda _name, *, gpus: SimpleNamespace(need=SimpleNamespace(nodes=2))
    row = machine("m")
    made.ledger.machines.put(row)
    view = MachineView("1", "m", MachineStatus.READY, AT, None, Decimal(price) if price else None, "A", "READY")
    said = _too_dear(made, row, view)
    assert made.ledger.machines.get(name="m").price_hour == Decimal(charged)
    assert said == (
        f"m costs ${price}.0000 an hour, which is more than only may pay (${2 * int(most or 0)})" if refused else ""
    )
    assert bool(made.ledger.events.all()) == (charged != "36")
