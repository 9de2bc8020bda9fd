"""A process that dies between the note that a machine is being ended and the delete: the next one deletes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestrator.testing.audit import unsafe
from orchestrator.testing.machine import Script
from orchestrator.words.lifecycle import MachineState, Outcome
from tests.unit.engine.stories import Story
from tests.unit.engine.test_unheard import bench_of, killed, machines


def test_a_machine_that_is_given_up_is_gone_before_another_one_is_made(tmp_path: Path):
    """It hangs, and would be paid for beside its successor until the run's end."""
    bench = bench_of("hang-lambda", tmp_path)
    killed(bench, MachineState.DESTROYING)
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    first, second = machines(bench)
    assert (first.gone_at or 0) <= (second.sent_at or 0)
    assert unsafe(bench) == []


def test_a_gpu_that_no_step_needs_any_more_is_gone_before_the_phase(tmp_path: Path):
    """The CPU machine works for another hour: whoever goes on does not wait for that."""
    (tmp_path / "home").mkdir()
    story = Story.load("staged", tmp_path / "plan")
    scripts = {**story.world.scripts, "pack": Script(3600, creates={"out/list.txt": "model.bin"})}
    bench = replace(story, world=replace(story.world, scripts=scripts)).bench(tmp_path / "home")
    killed(bench, MachineState.DESTROYING)
    died = bench.ledger().now()
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    cpu, gpu = machines(bench)
    assert (cpu.gpus, gpu.gpus) == (0, 1)
    assert died <= (gpu.gone_at or 0) < died + 120 < (cpu.gone_at or 0)
    assert unsafe(bench) == []
