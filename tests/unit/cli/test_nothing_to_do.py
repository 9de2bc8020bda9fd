"""A phase with nothing to do rents nothing, one that is only looked at no GPU, and no step gets too small a machine."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.engine.control import Control
from orchestrator.testing.machine import Script
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import Outcome
from tests.unit.cli.desk import Desk

PLAN = """
one:
  machine: {gpu: [RTX-4090]}
  volume: {name: data, size_gb: 10}
  steps: [{name: make, run: make, creates: [out/one.txt]}]
  deliverables: [{name: made, file: out/one.txt, min_bytes: LEAST}]
  artifacts: [out/*]
two:
  machine: {gpu: [RTX-4090]}
  volume: {name: data, size_gb: 10}
  steps:
    - {name: serve, run: serve, ready: {log: listening}}
    - {name: use, run: use, needs: [one/make, serve], creates: [two.txt]}
more:
  machine: {gpu: [RTX-4090]}
  steps: [{name: more, run: more}]
"""
SCRIPTS = {
    "make": Script(creates={"out/one.txt": "hello"}),
    "use": Script(creates={"two.txt": "2"}),
    "serve": Script(output="listening\n"),
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Two phases on one volume, the first one saves what it makes; and a third, without which the plan is not done."""
    return Desk(tmp_path, PLAN.replace("LEAST", "1"), scripts=SCRIPTS, stores=1)


def machines(desk: Desk) -> list[tuple[str, str]]:
    """Phase and GPU of every machine that was ever asked for, in order."""
    return [(row.phase, row.gpu) for row in desk.bench.ledger().machines.all()]


def test_a_finished_phase_rents_nothing(desk: Desk):
    """With the first phase done, a run of both boots one machine, prices nothing else, and shows all deliverables."""
    desk.run("one")
    preview = desk.propose("one", "two").preview
    assert [(p.phase, p.up_to_date, p.price_hour is None) for p in preview.phases] == [
        ("one", True, True),
        ("two", False, False),
    ]
    assert preview.phases[0].estimated_usd == 0
    assert desk.run("one", "two").outcome == Outcome.SUCCEEDED
    assert machines(desk) == [("one", "RTX-4090"), ("two", "RTX-4090")]
    ledger, run = desk.bench.ledger(), desk.bench.spec.run
    assert [(p.name, p.outcome) for p in ledger.phases.all(run=run)] == [("one", "succeeded"), ("two", "succeeded")]
    (made,) = ledger.deliverables.all(run=run, phase="one")
    assert (made.ok, "(in run 1102-tes1)" in made.detail) == (True, True)


def test_when_all_is_finished_the_next_run_is_up_to_date(desk: Desk):
    """Also after a run in which a phase had nothing to do: the run that did it last is looked up."""
    desk.run("one")
    desk.run("one", "two")
    assert desk.propose("one", "two").up_to_date
    assert desk.propose("one").up_to_date


def test_another_way_of_saving_is_looked_at(desk: Desk):
    """What is in the store file by file is not yet there as the tar that the phase says now."""
    desk.run("one")
    desk.write(PLAN.replace("LEAST", "1").replace("artifacts: [out/*]", "artifacts: [out/*]\n  pack: {out: tar}"))
    assert not desk.propose("one").up_to_date
    assert desk.run("one").outcome == Outcome.SUCCEEDED
    assert "out.tar" in desk.bench.stores[0].objects
    assert desk.propose("one").up_to_date


def test_what_was_not_seen_whole_is_looked_at_without_a_gpu(desk: Desk):
    """A new deliverable of a phase whose steps are done: one CPU machine, its boot in the estimate, no step again."""
    desk.run("one", "two")
    desk.write(PLAN.replace("LEAST", "2"))
    proposal = desk.propose("one")
    (phase,) = proposal.preview.phases
    assert (phase.up_to_date, phase.offer.gpus if phase.offer else None) == (False, 0)
    assert phase.needs == "a machine without GPU"
    assert phase.estimated_hours >= 1  # it boots for an hour here
    assert phase.estimated_usd
    before = desk.bench.runs()
    assert desk.run("one").outcome == Outcome.SUCCEEDED
    assert machines(desk)[2:] == [("one", "")]
    assert desk.bench.runs() == before


def test_check_looks_at_everything_without_a_gpu(desk: Desk):
    """`--check` of a plan that is done: no GPU is rented, no step repeated, no service started."""
    desk.run("one", "two")
    before = desk.bench.runs()
    assert desk.run("one", "two", check=True).outcome == Outcome.SUCCEEDED
    assert machines(desk)[2:] == [("one", ""), ("two", "")]
    assert desk.bench.runs() == before


def test_more_work_than_was_previewed_does_not_run_on_the_machine_that_looks(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    """The volume has lost a file: the run ends before a GPU step runs on a CPU, whatever somebody would answer."""
    monkeypatch.setattr(Control, "ask", lambda *_: True)
    desk.run("one", "two")
    (disk,) = desk.bench._disks.values()
    del disk.files["/workspace/two.txt"]
    assert desk.run("one", "two", check=True).outcome == Outcome.OVER_BUDGET
    assert desk.bench.runs()["use"] == 1
    (one, two) = desk.propose("one", "two").preview.phases
    assert (one.up_to_date, two.up_to_date, two.offer.gpus if two.offer else 0) == (True, False, 1)


SMALL = """
train:
  machine: {gpu: [A100-80GB], count: 2}
  volume: {name: data, size_gb: 10}
  steps:
    - {name: fetch, run: fetch, gpu: false, creates: [f]}
    - {name: train, run: train, needs: [fetch], creates: [model]}
report:
  machine: MACHINE
  volume: {name: data, size_gb: 10}
  steps: [{name: write, run: write, needs: [NEED], gpu: false}]
"""


@pytest.mark.parametrize("machine", ["{}", "{gpu: [RTX-4090], count: 2}", "{gpu: [A100-80GB]}"])
def test_a_gpu_step_is_not_pulled_into_a_smaller_machine(tmp_path: Path, machine: str):
    """Without a GPU, with less memory, with fewer: refused with what to run first; beside its own phase it runs."""
    scripts = {"fetch": Script(creates={"f": "1"}), "train": Script(creates={"model": "1"})}
    desk = Desk(tmp_path, SMALL.replace("MACHINE", machine).replace("NEED", "train/train"), scripts=scripts)
    with pytest.raises(UsageError, match="report needs train/train, which is not done and is written for 2x") as caught:
        desk.propose("report")
    assert "gpuplan run train report" in caught.value.remedy
    assert desk.propose("train", "report")
    desk.run("train")
    assert desk.propose("report")


def test_a_step_that_needs_no_gpu_is_pulled_in_anywhere(tmp_path: Path):
    """`gpu: false` says so: the asking phase's CPU machine does it."""
    desk = Desk(tmp_path, SMALL.replace("MACHINE", "{}").replace("NEED", "train/fetch"))
    (phase,) = desk.propose("report").preview.phases
    assert (phase.offer.gpus if phase.offer else None, phase.pulled_in_usd is not None) == (0, True)
    assert phase.estimated_usd > Decimal(0) if phase.estimated_usd else False
