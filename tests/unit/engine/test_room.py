"""Room: the volume's own size counts, whatever the machine's disk says."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.config import ConfigErrors, load_plan
from orchestrator.engine import room
from orchestrator.testing.bench import Bench, World
from orchestrator.testing.machine import Script, ScriptedMachine
from orchestrator.words.errors import StepFailed
from orchestrator.words.lifecycle import Outcome

PLAN = """
name: only
machine: {gpu: [A100-40GB]}
volume: {name: data, size_gb: 10}
steps: [{name: make, run: make, writes_gb: 8, creates: [x]}]
"""


def bench(folder: Path, provider: str, place: str, **script: Any) -> Bench:
    (folder / "plan").mkdir()
    (folder / "home").mkdir()
    (folder / "plan" / "only.yaml").write_text(PLAN)
    made = Script(**{"creates": {"x": "1"}, **script})
    world = World(provider=provider, place=place, scripts={"make": made})
    return Bench(load_plan(folder / "plan", environ={}), ("only",), world, folder / "home")


@pytest.mark.parametrize(
    ("provider", "place", "used", "outcome"),
    [
        ("runpod", "EU-RO-1", 1.9e9, Outcome.SUCCEEDED),
        ("runpod", "EU-RO-1", 2.1e9, Outcome.FAILED),
        ("lambda", "us-east-1", 2.1e9, Outcome.SUCCEEDED),
    ],
)
def test_a_volume_ends_at_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, place: str, used: float, outcome: Outcome
):
    """The machine's disk has terabytes; of 10 GB 2.1 are used, 8 are needed: refused where nothing grows."""
    monkeypatch.setattr(ScriptedMachine, "_op_used", lambda *_: {"bytes": int(used)})
    made = bench(tmp_path, provider, place)
    assert made.controller().run().outcome == outcome
    (phase,) = made.ledger().phases.all()
    words = "volume full: only/make writes 8 GB, data has 10 GB, of which 2.1 GB are used"
    assert (words in phase.error) == (outcome == Outcome.FAILED)
    assert made.runs()["make"] == (outcome == Outcome.SUCCEEDED)


@pytest.mark.parametrize("words", ["cp: error writing 'x': Disk quota exceeded", "OSError: No space left on device"])
def test_a_step_without_room_is_told_as_such(tmp_path: Path, words: str):
    """What it printed, then the volume with its size and what the step says it writes."""
    made = bench(tmp_path, "runpod", "EU-RO-1", exit=1, output=f"{words}\n")
    assert made.controller().run().outcome == Outcome.FAILED
    (phase,) = made.ledger().phases.all()
    assert f"{words}\nthe volume data, of 10 GB, is full (the step says that it writes 8 GB): make room" in phase.error


def test_a_volume_that_is_too_small_is_a_mistake(tmp_path: Path):
    """All steps of all phases on it, added up: told at size_gb, before anything is rented."""
    text = PLAN.replace("writes_gb: 8", "writes_gb: 6.5")
    (tmp_path / "a.yaml").write_text(text)
    assert load_plan(tmp_path, environ={})
    (tmp_path / "b.yaml").write_text(text.replace("only", "more"))
    with pytest.raises(ConfigErrors) as caught:
        load_plan(tmp_path, environ={})
    (error,) = caught.value.errors
    assert error.where.endswith("a.yaml:4:31")
    assert "volume data has 10 GB, and the steps on it write 13.0 GB" in error.message
    assert error.remedy == "write size_gb: 13 or more, in each phase"


@pytest.mark.parametrize(
    ("share", "need_gb", "fits"), [(1.0, 1.0, True), (1.0, 1.1, False), (0.5, 2.0, True), (0.5, 2.2, False)]
)
def test_the_disk_has_room_in_the_plans_own_measure(share: float, need_gb: float, *, fits: bool):
    """A rehearsal's disk stands for a larger one: what is free counts by its share."""
    free_mib = (1e9 + 1) / (1 << 20)
    agent = SimpleNamespace(hello=lambda: SimpleNamespace(disk_free_mib=free_mib), workspace="/w")
    context = SimpleNamespace(provider=SimpleNamespace(disk_share=share, capabilities=()))
    with contextlib.nullcontext() if fits else pytest.raises(StepFailed, match="disk full: it, /w has"):
        room.require(cast("Any", context), cast("Any", agent), None, need_gb, "it")
