"""The real CUDA call on one GPU, with a driver that does as it is told."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import pytest

from tests.agent.conftest import AGENT

sys.path.insert(0, str(AGENT))
from gpuplan_agent import cuda
from gpuplan_agent.machine import NO_GPU

CALLS = [
    "cuInit",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuCtxCreate_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuCtxDestroy_v2",
]


class Driver:
    """libcuda with one card; `failing` returns 999."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.called: list[str] = []
        self.facts: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.called.append(name)
            if name == self.failing:
                return 999
            if name == "cuDeviceGetCount":
                arguments[0]._obj.value = 1
            elif name == "cuMemAlloc_v2":
                self.facts["bytes"] = arguments[1].value
                arguments[0]._obj.value = 0x7000_0000_1000
            elif name == "cuMemFree_v2":
                self.facts["freed"] = arguments[0].value
            return 0

        return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """What the machine has as libcuda.so.1."""
    made = Driver()
    monkeypatch.setattr(ctypes, "CDLL", {"libcuda.so.1": made}.__getitem__)
    return made


def test_memory_is_had_on_the_card_and_given_back(driver: Driver):
    """A card that works is asked for a little memory in a context of its own, and gets all of it back."""
    assert cuda.main(["0"]) == 0
    assert driver.called == CALLS
    assert driver.facts == {"bytes": 1 << 20, "freed": 0x7000_0000_1000}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_fails_is_named(name: str, driver: Driver, capsys: pytest.CaptureFixture[str]):
    """Whichever call fails ends the probe there, with the driver's number; the card is there, and is at fault."""
    driver.failing = name
    assert cuda.main(["0"]) == 1
    shown = "cuInit" if name == "cuDeviceGetCount" else name.removesuffix("_v2")
    assert capsys.readouterr().out == f"CUDA error 999 in {shown}\n"
    assert driver.called == CALLS[: CALLS.index(name) + 1]


def test_a_card_that_the_driver_does_not_have_is_no_fault(driver: Driver, capsys: pytest.CaptureFixture[str]):
    """Fewer cards than were rented is another answer than one that fails, and none of them is touched."""
    assert cuda.main(["1"]) == NO_GPU
    assert capsys.readouterr().out == "only 1 CUDA devices\n"
    assert driver.called == CALLS[:2]
