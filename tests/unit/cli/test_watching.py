"""`gpuplan status --watch`: a run that another process drives, from any terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.cli import watching
from orchestrator.ledger import Ledger
from orchestrator.testing.machine import Script
from orchestrator.words.lifecycle import Outcome, RunState, StepState
from orchestrator.words.spec import RunSpec
from tests.unit.cli.desk import Desk

PLAN = "one: {machine: {gpu: [RTX-4090]}, steps: [{name: train, run: train}, {name: measure, run: measure}]}"


@pytest.fixture
def run(tmp_path: Path) -> tuple[Ledger, RunSpec, Path]:
    """A run of which the last step goes on; its ledger and its folder, as another terminal finds them."""
    desk = Desk(tmp_path, PLAN, scripts={"train": Script(), "measure": Script()})
    desk.run("one")
    ledger, spec = desk.bench.ledger(), desk.bench.spec
    logs = desk.home.run_folder(spec.run) / "logs" / "one"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "measure.log").write_text("first\n42 tokens/s\n")
    row = ledger.runs.get(id=spec.run)
    ledger.runs.put(replace(row, state=RunState.RUNNING, ended_at=None, outcome=None))
    step = ledger.steps.get(run=spec.run, phase="one", id="one/measure")
    ledger.steps.put(replace(step, state=StepState.RUNNING, ended_at=None))
    return ledger, spec, desk.home.run_folder(spec.run)


def look(ledger: Ledger, spec: RunSpec, folder: Path, driven: Iterator[bool], *, then: Any = lambda: None) -> None:
    """Look on; `then` happens between two looks, in place of the second that is waited for."""
    home = SimpleNamespace(is_driven=lambda _run: next(driven), run_folder=lambda _run: folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.cli.watching.time.sleep", lambda _seconds: then())
        watching.watch(cast("Any", home), ledger, spec)


def test_the_view_ends_with_the_run(run: tuple[Ledger, RunSpec, Path], capsys: pytest.CaptureFixture[str]):
    """What ends meanwhile is said once, then the last block, as the terminal of the run itself has it."""
    ledger, spec, folder = run

    def end() -> None:
        for step in ledger.steps.all(run=spec.run, id="one/measure"):
            ledger.steps.put(replace(step, state=StepState.DONE, ended_at=ledger.now()))
        row = ledger.runs.get(id=spec.run)
        ledger.runs.put(replace(row, state=RunState.DONE, outcome=Outcome.SUCCEEDED, ended_at=ledger.now()))

    look(ledger, spec, folder, iter([True] * 9), then=end)
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith("driven by process")
    assert said.count("done: train") == said.count("done: measure") == 1
    assert said.splitlines()[-1].startswith(f"{spec.run}: succeeded")


def test_a_view_that_is_left_ends_nothing(run: tuple[Ledger, RunSpec, Path], capsys: pytest.CaptureFixture[str]):
    """Ctrl-C, or a run that nobody drives any more: it says how to look again, and the run is as it was."""
    ledger, spec, folder = run

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    look(ledger, spec, folder, iter([True] * 9), then=ctrl_c)
    look(ledger, spec, folder, iter([True, False]))
    said = capsys.readouterr().out
    assert said.count(f"the run goes on without this view: gpuplan status --watch {spec.run}") == 2
    assert ledger.runs.get(id=spec.run).state == RunState.RUNNING


def test_the_last_line_of_a_log_is_its_newest(tmp_path: Path):
    """Whatever its length; empty lines are none, and neither is a log that is not there."""
    log = tmp_path / "log"
    log.write_text("x" * 10_000 + "\nnewest\n\n")
    assert watching.last_line(log) == "newest"
    assert watching.last_line(tmp_path / "nowhere") == ""
