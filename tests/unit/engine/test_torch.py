"""torch and card are tried before the first step: a machine on which they do not work together is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config import load_plan
from orchestrator.testing.bench import Bench, World
from orchestrator.testing.machine import Script
from orchestrator.transport.agent import Agent
from orchestrator.words.lifecycle import Outcome

PLAN = """
name: only
machine: {gpu: [A100-40GB, RTX-4090]}
volume: {name: data, size_gb: 10}
steps: [{name: make, run: make, creates: [x]}]
"""
WORDS = "torch 2.8.0 does not compute on NVIDIA H100: no kernel image is available"


def bench(folder: Path, *faults: str) -> Bench:
    (folder / "plan").mkdir()
    (folder / "home").mkdir()
    (folder / "plan" / "only.yaml").write_text(PLAN)
    world = World(scripts={"make": Script(creates={"x": "1"})}, faults=faults)
    return Bench(load_plan(folder / "plan", environ={}), ("only",), world, folder / "home")


def test_a_machine_whose_torch_does_not_compute_is_replaced(tmp_path: Path):
    """Its words are said and kept as why it failed; it is ended, and no step was begun on it."""
    made = bench(tmp_path, "torch-no-kernel")
    assert made.controller().run().outcome == Outcome.SUCCEEDED
    first, second = made.ledger().machines.all()
    assert WORDS in first.failed
    assert not second.failed
    said = [event.text for event in made.ledger().newest_events(made.spec.run, 100)]
    assert any(WORDS in text and "another machine takes over" in text for text in said)
    assert made.runs()["make"] == 1
    assert made.clouds.machines_left() == []


def test_torch_that_works_nowhere_ends_the_search(tmp_path: Path):
    """After as many replacements as are allowed the run ends without a machine, in torch's own words."""
    made = bench(tmp_path, *["torch-no-kernel"] * 9)
    assert made.controller().run().outcome == Outcome.NO_MACHINE
    (phase,) = made.ledger().phases.all()
    assert WORDS in phase.error
    assert made.runs()["make"] == 0
    assert made.clouds.machines_left() == []


def test_what_is_installed_beside_the_image_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A line of the venv's making on what the image has too old is an event; it is asked with the machine's cards."""
    asked: list[int] = []

    def made_venv(_self: Agent, _files: list[str], on_log: Callable[[str], None], *, gpus: int) -> None:
        asked.append(gpus)
        on_log("not of the image: torch>=2.6\n")
        on_log("torch 2.8.0 (CUDA 12.8) computes on NVIDIA A100 (sm_80)\n")

    monkeypatch.setattr(Agent, "bootstrap", made_venv)
    made = bench(tmp_path)
    assert made.controller().run().outcome == Outcome.SUCCEEDED
    (machine,) = made.ledger().machines.all()
    said = [event.text for event in made.ledger().newest_events(made.spec.run, 100)]
    assert f"{machine.name}: not of the image: torch>=2.6: installed into the venv of the steps" in said
    assert f"{machine.name}: torch 2.8.0 (CUDA 12.8) computes on NVIDIA A100 (sm_80)" in said
    assert asked == [1]
