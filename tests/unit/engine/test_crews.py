"""Machines that come and go while their phase is under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from orchestrator.config import load_plan
from orchestrator.engine.effects import RunEnd
from orchestrator.ledger.rows import MachineRow, StepRow
from orchestrator.plan.crews import left_behind
from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import Bench, World
from orchestrator.testing.machine import Script
from orchestrator.words.lifecycle import Outcome, StepState

VOLUME = {"name": "data", "size_gb": 10}
FETCH = {"name": "fetch", "run": "fetch", "creates": ["data.bin"], "gpu": False, "expect": "10m"}
ASK = {"name": "ask", "run": "ask", "needs": ["fetch"], "expect": "1m"}
CHECK = {"name": "check", "run": "check", "needs": ["fetch"], "gpu": False, "expect": "1h"}
SCRIPTS = {
    "fetch": Script(600, creates={"data.bin": "0123"}),
    "ask": Script(60),
    "check": Script(3600),
    "serve": Script(output="listening\n"),
}


def lived(
    folder: Path, *steps: dict[str, Any], machine: dict[str, Any] | None = None,
    scripts: dict[str, Script] | None = None, faults: tuple[str, ...] = (), again: bool = False,
) -> tuple[Bench, RunEnd]:  # fmt: skip
    """One phase on the bench, once (`again`: twice, and the second run counts), with what must never be looked for."""
    need = {"gpu": ["RTX-4090"], **(machine or {})}
    phase = {"name": "one", "machine": need, "volume": VOLUME, "steps": list(steps)}
    (folder / "plan" / "phases").mkdir(parents=True)
    (folder / "plan" / "phases" / "one.yaml").write_text(yaml.safe_dump(phase))
    (folder / "plan" / "gpuplan.yaml").write_text("plan: crews\n")
    (folder / "home").mkdir()
    plan = load_plan(folder / "plan", environ={})
    bench = Bench(plan, ("one",), World(scripts=SCRIPTS | (scripts or {}), faults=faults), folder / "home")
    if again:
        bench.live_earlier(("one",))
    end = bench.controller().run()
    assert unsafe(bench) == []
    assert end.left == ()
    return bench, end


def machines(bench: Bench) -> list[MachineRow]:
    """Those of the run, in the order in which they were asked for."""
    return sorted(bench.ledger().machines.all(run=bench.spec.run), key=lambda row: row.sent_at or 0)


def row(bench: Bench, step: str) -> StepRow:
    return bench.ledger().steps.get(run=bench.spec.run, phase="one", id=f"one/{step}")


def test_a_gpu_is_there_when_its_first_step_may_begin_and_gone_after_the_last(tmp_path: Path):
    """It boots while the CPU machine fetches, and ends an hour before the phase does."""
    bench, end = lived(tmp_path, FETCH, ASK, CHECK)
    cpu, gpu = machines(bench)
    assert (end.outcome, cpu.gpus, gpu.gpus) == (Outcome.SUCCEEDED, 0, 1)
    fetched, asked, checked = (row(bench, name).ended_at or 0 for name in ("fetch", "ask", "check"))
    assert fetched - 60 < (gpu.sent_at or 0) < (gpu.reachable_at or 0) <= fetched
    assert (row(bench, "ask").started_at, row(bench, "check").started_at) == (fetched, fetched)
    assert asked <= (gpu.gone_at or 0) < asked + 5 < checked <= (cpu.gone_at or 0)


def test_a_lost_gpu_is_replaced_and_nothing_else(tmp_path: Path):
    """The CPU machine stays, and what it has done is not done again."""
    bench, end = lived(tmp_path, FETCH, ASK, faults=("preempt@ask",))
    assert end.outcome == Outcome.SUCCEEDED
    assert [machine.gpus for machine in machines(bench)] == [0, 1, 1]
    assert bench.runs() == {"fetch": 1, "ask": 2}


def test_a_lost_staging_machine_is_replaced(tmp_path: Path):
    """No GPU waits for it: none was asked for yet."""
    bench, end = lived(tmp_path, FETCH, ASK, faults=("preempt@fetch",))
    assert end.outcome == Outcome.SUCCEEDED
    assert [machine.gpus for machine in machines(bench)] == [0, 0, 1]


def test_no_gpu_is_rented_for_a_step_that_will_not_run(tmp_path: Path):
    """When what it needs fails, or when it was done before, there is the CPU machine only."""
    bench, end = lived(tmp_path / "failed", FETCH, ASK, scripts={"fetch": Script(5, exit=1)})
    assert (end.outcome, [machine.gpus for machine in machines(bench)]) == (Outcome.FAILED, [0])
    assert row(bench, "ask").state == StepState.SKIPPED
    bench, end = lived(tmp_path / "done", FETCH, ASK, again=True)
    assert (end.outcome, [machine.gpus for machine in machines(bench)]) == (Outcome.SUCCEEDED, [0])
    assert bench.runs() == {"fetch": 1, "ask": 1}


def test_a_phase_without_the_gpu_that_it_needs_ends_as_no_machine(tmp_path: Path):
    """What the CPU machine was doing comes to its end; then it is ended too, and says why."""
    refused = "create-refused-payment"
    bench, end = lived(tmp_path / "all", FETCH, ASK, faults=(refused,))
    assert (end.outcome, bench.creates()) == (Outcome.NO_MACHINE, [])
    bench, end = lived(tmp_path / "gpu", FETCH, ASK, machine={"gpu": ["B200-180GB"]})
    assert (end.outcome, bench.runs()) == (Outcome.NO_MACHINE, {"fetch": 1})
    assert "no machine" in bench.ledger().phases.get(run=bench.spec.run, name="one").error


def test_staging_none_keeps_one_machine(tmp_path: Path):
    """The GPU is there from the first step on, and does them all."""
    bench, end = lived(tmp_path, FETCH, ASK, machine={"staging": "none"})
    assert (end.outcome, [machine.gpus for machine in machines(bench)]) == (Outcome.SUCCEEDED, [1])


def test_two_machines_never_create_files_at_the_same_time(tmp_path: Path):
    """A step that creates files waits for one that does so on the other machine; one that only reads does not."""
    write = {"name": "write", "run": "write", "needs": ["fetch"], "creates": ["w"], "expect": "1m"}
    copy = {"name": "copy", "run": "copy", "needs": ["fetch"], "creates": ["c"], "gpu": False, "expect": "1m"}
    scripts = {"write": Script(100, creates={"w": "1"}), "copy": Script(100, creates={"c": "1"})}
    bench, end = lived(tmp_path, FETCH, write, copy, ASK, scripts=scripts)
    assert end.outcome == Outcome.SUCCEEDED
    first, second = sorted((row(bench, name) for name in ("write", "copy")), key=lambda r: r.started_at or 0)
    assert (second.started_at or 0) >= (first.ended_at or 0)
    assert row(bench, "ask").started_at == row(bench, "fetch").ended_at


def test_a_second_node_is_there_for_the_steps_that_need_it(tmp_path: Path):
    """It comes for the service on it, and goes when the step that asks the service has ended."""
    serve = {"name": "serve", "run": "serve", "on": "workers", "needs": ["ask"], "ready": {"log": "listening"}}
    talk = {"name": "talk", "run": "talk", "needs": ["serve"], "expect": "1m"}
    last = {"name": "last", "run": "last", "needs": ["talk"], "expect": "1h"}
    scripts = {"talk": Script(60), "last": Script(3600)}
    bench, end = lived(tmp_path, FETCH, ASK, serve, talk, last, machine={"nodes": 2}, scripts=scripts)
    assert end.outcome == Outcome.SUCCEEDED
    cpu, root, worker = machines(bench)
    assert (cpu.node, root.node, worker.node) == (0, 0, 1)
    talked = row(bench, "talk").ended_at or 0
    assert (row(bench, "fetch").ended_at or 0) < (worker.reachable_at or 0)
    assert talked <= (worker.gone_at or 0) < talked + 10
    assert (root.gone_at or 0) >= (row(bench, "last").ended_at or 0)


def test_a_service_and_those_who_ask_it_are_on_one_machine(tmp_path: Path):
    """A step without GPU that asks a service on the GPU machine runs there."""
    serve = {"name": "serve", "run": "serve", "needs": ["fetch"], "ready": {"log": "listening"}}
    talk = {"name": "talk", "run": "talk", "needs": ["serve"], "gpu": False, "expect": "1m"}
    bench, _ = lived(tmp_path, FETCH, serve, talk)
    assert row(bench, "talk").machines == row(bench, "serve").machines != row(bench, "fetch").machines


def test_what_stays_behind_is_told(tmp_path: Path):
    """A step without GPU that creates nothing and is needed by one with: what it leaves elsewhere is not there."""
    install = {"name": "install", "run": "pip install x", "needs": ["fetch"], "gpu": False}
    bench, _ = lived(tmp_path / "a", FETCH, install, {**ASK, "needs": ["install"]})
    assert [(a.id, b.id) for a, b in left_behind(bench.spec.plan)] == [("one/install", "one/ask")]
    bench, _ = lived(tmp_path / "b", FETCH, install, ASK)
    assert left_behind(bench.spec.plan) == []


def test_a_cpu_machine_has_an_image_of_its_own(tmp_path: Path):
    """The image of the machines with a GPU brings torch, which nothing on a CPU machine asks for."""
    bench, _ = lived(tmp_path, FETCH, ASK)
    asked = [call.body or {} for call in bench.clouds.calls if (call.method, call.path) == ("POST", "/v2/pods")]
    settings = bench.spec.plan.settings
    images = [settings.cpu_images["runpod"], settings.images["runpod"]]
    assert [body["image"] for body in asked] == images
