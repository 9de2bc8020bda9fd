"""A machine that its provider calls healthy, and that answers nobody: rebooted once, then ended and replaced."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.engine.machines import Machines
from orchestrator.engine.reboots import BACK_S
from orchestrator.ledger.rows import MachineRow
from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import Bench
from orchestrator.testing.machine import Script
from orchestrator.words.errors import Ambiguous, ProviderUnavailable
from orchestrator.words.lifecycle import Outcome
from tests.faults.processes import Process
from tests.unit.engine.stories import Story

SILENCE_S, LATE_S = 900.0, 60.0  # `unreachable_minutes`; between two tries to reach a machine, and for its end
CLOUDS = [("one-phase", "make"), ("lambda", "work")]


def bench_of(story: str, folder: Path, *faults: str, seconds: float = 5000, **settings: object) -> Bench:
    """A story in which those faults come, and every command takes that long."""
    told = Story.load(story, folder / "plan")
    scripts = {name: replace(script, seconds=seconds) for name, script in told.world.scripts.items()}
    plan = told.plan.model_copy(update={"settings": told.plan.settings.model_copy(update=settings)})
    home = folder / "home"
    home.mkdir()
    return replace(told, plan=plan, world=replace(told.world, scripts=scripts, faults=faults)).bench(home)


def events(bench: Bench) -> list[str]:
    return [event.text for event in bench.ledger().events.all()]


def machines(bench: Bench) -> list[MachineRow]:
    return bench.ledger().machines.all()


def reboots(bench: Bench) -> int:
    return Counter(entry["action"] for entry in bench.clouds.log())["restart-machine"]


@pytest.mark.parametrize(("story", "step"), CLOUDS)
def test_a_silent_machine_is_rebooted_and_goes_on(story: str, step: str, tmp_path: Path):
    """A quarter of an hour after its last answer, once; what it ran is lost, and begins again as no try of the step's.

    No other machine is rented: none may be, and none was.
    """
    bench = bench_of(story, tmp_path, f"hang@{step}", max_replacements=0)
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    (machine,) = machines(bench)
    assert reboots(bench) == 1
    assert bench.runs()[step] == 2
    assert SILENCE_S < (machine.rebooted_at or 0) - (machine.accepted_at or 0) < SILENCE_S + 200 + LATE_S
    said = f"{machine.name}: it has not answered for 15 min, though its provider says that it runs; rebooted, and"
    assert [text for text in events(bench) if text.startswith(said)] == [f"{said} waited for up to 10 min"]
    assert any("it is prepared anew" in text for text in events(bench))
    lost = f"{machine.name}: connection lost (it does not answer); what runs there goes on"
    assert [text for text in events(bench) if "connection lost" in text] == [lost]
    assert unsafe(bench) == []


def test_what_ended_well_in_the_silence_is_not_done_again(tmp_path: Path):
    """Where the disk outlives a reboot, the result of a job that came to its end before it is taken."""
    bench = bench_of("lambda", tmp_path, "hang@work", seconds=300)
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    assert (reboots(bench), bench.runs()["work"]) == (1, 1)


@pytest.mark.parametrize(("story", "step"), CLOUDS)
@pytest.mark.parametrize("error", [Ambiguous("no answer"), None], ids=["unknown", "asked"])
def test_a_job_that_outlived_the_silence_is_gone_on_with(
    story: str, step: str, error: Ambiguous | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A reboot of which nothing comes, and a machine that answers again by itself: its job is attached to."""
    bench = bench_of(story, tmp_path, f"hang@{step}")
    controller, asked = bench.controller(), list[str]()

    def reboot(machine_id: str) -> None:
        asked.append(machine_id)
        bench.machines[machine_id].hangs = False
        if error:
            raise error

    monkeypatch.setattr(controller.context.provider, "reboot", reboot)
    assert controller.run().outcome == Outcome.SUCCEEDED
    assert (len(asked), len(bench.creates()), bench.runs()[step]) == (1, 1, 1)


@pytest.mark.parametrize(("story", "step"), CLOUDS)
def test_a_silent_machine_is_ended_and_replaced(story: str, step: str, tmp_path: Path):
    """One that stays silent after its reboot is ended ten minutes later, and another machine does the work."""
    bench = bench_of(story, tmp_path, f"hang-for-good@{step}")
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    first, second = machines(bench)
    assert reboots(bench) == 1
    assert first.reason == "it has not answered for 15 min, though its provider says that it runs"
    assert BACK_S <= (first.gone_at or 0) - (first.rebooted_at or 0) < BACK_S + LATE_S
    assert any("the reboot has not brought it back: " in text for text in events(bench))
    assert second.reachable_at
    assert unsafe(bench) == []


@pytest.mark.parametrize(("story", "step"), CLOUDS)
def test_one_that_is_not_rebooted_is_replaced_at_once(story: str, step: str, tmp_path: Path):
    """Where its provider refuses, nobody waits: its words are said, and the machine is ended."""
    bench = bench_of(story, tmp_path, f"hang-refused@{step}")
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    first, _ = machines(bench)
    assert reboots(bench) == 0
    assert (first.gone_at or 0) - (first.silent_at or 0) < LATE_S
    assert any("it is not rebooted: " in text and "(409)" in text for text in events(bench))
    assert unsafe(bench) == []


def test_a_provider_that_heard_nothing_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever becomes of the one request, there is no second one: the machine is replaced."""
    bench = bench_of("one-phase", tmp_path, "hang@make")
    controller, asked = bench.controller(), list[str]()

    def reboot(machine_id: str) -> None:
        asked.append(machine_id)
        raise ProviderUnavailable("429")

    monkeypatch.setattr(controller.context.provider, "reboot", reboot)
    assert controller.run().outcome == Outcome.SUCCEEDED
    assert (len(asked), len(bench.creates())) == (1, 2)


@pytest.mark.parametrize(
    ("where", "asked", "made"), [("ledger: machines", 0, 2), ("POST action", 1, 1)], ids=["before", "after"]
)
def test_a_process_that_dies_around_the_request_leaves_no_second_one(where: str, asked: int, made: int, tmp_path: Path):
    """That it will be asked is written down before; whoever goes on waits for the machine, and asks no more."""
    bench = bench_of("one-phase", tmp_path, "hang@make")
    ledger, process = bench.ledger(), Process(bench.clock, "run", bench.controller().run)

    def changed(what: str) -> None:
        mine = bench.clock.life is process.life
        if mine and what == where and any(row.rebooted_at for row in ledger.machines.all()):
            process.kill()

    bench.watchers.changed = changed
    process.wait(86400.0)
    assert process.killed
    assert reboots(bench) == asked
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    assert (reboots(bench), len(bench.creates())) == (asked, made)
    assert unsafe(bench) == []


def test_a_machine_is_rebooted_once_in_its_life(tmp_path: Path):
    """One that falls silent again, in a later step, is ended and replaced at once: there is no loop."""
    bench = bench_of("one-phase", tmp_path, "hang@make", "hang@look")
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    assert (reboots(bench), len(bench.creates())) == (1, 2)
    first = machines(bench)[0]
    assert (first.gone_at or 0) - (first.silent_at or 0) < LATE_S
    assert unsafe(bench) == []


def test_machines_that_all_hang_end_the_phase(tmp_path: Path):
    """Within `max_replacements`: each is rebooted once, ended, and the last one is not replaced."""
    bench = bench_of("one-phase", tmp_path, "hang-for-good@make:9", max_replacements=1)
    end = bench.controller().run()
    assert (end.outcome, end.left) == (Outcome.NO_MACHINE, ())
    assert (reboots(bench), len(bench.creates())) == (2, 2)
    assert unsafe(bench) == []


def test_a_run_that_is_to_stop_waits_for_no_reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Asked to stop while the machine is rebooted, the run ends it at once."""
    bench = bench_of("one-phase", tmp_path, "hang-for-good@make")
    controller = bench.controller()
    real = controller.context.provider.reboot

    def reboot(machine_id: str) -> None:
        real(machine_id)
        controller.context.control.stop("interrupted", "Ctrl-C")

    monkeypatch.setattr(controller.context.provider, "reboot", reboot)
    end = controller.run()
    assert (end.outcome, end.left) == (Outcome.INTERRUPTED, ())
    (machine,) = machines(bench)
    assert (machine.gone_at or 0) - (machine.rebooted_at or 0) < LATE_S


def test_a_run_that_is_to_stop_reboots_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Asked to stop as its machine is given up as silent."""
    bench = bench_of("one-phase", tmp_path, "hang@make")
    controller = bench.controller()
    real = Machines.fell_silent

    def fell_silent(self: Machines, name: str, reason: str) -> None:
        real(self, name, reason)
        controller.context.control.stop("interrupted", "Ctrl-C")

    monkeypatch.setattr(Machines, "fell_silent", fell_silent)
    end = controller.run()
    assert (end.outcome, end.left, reboots(bench)) == (Outcome.INTERRUPTED, (), 0)


def test_a_node_that_hangs_is_one_of_its_phases_nodes_again(tmp_path: Path):
    """With several nodes nothing is gone on with half-way: services and steps begin anew, and the nodes meet again."""
    bench = bench_of("two-nodes", tmp_path, "hang@ask", seconds=2000)
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    assert (reboots(bench), bench.runs()) == (1, {"serve": 2, "ask": 2})
    assert [row.node for row in machines(bench)] == [0, 1, 1]  # the other one is ended when no step is left for it
    assert unsafe(bench) == []


def test_with_several_nodes_what_outlived_the_silence_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its other half is gone: it does not go on beside its successor."""
    bench = bench_of("two-nodes", tmp_path, "hang@ask", seconds=2000)
    controller, stops = bench.controller(), list[str]()

    def reboot(machine_id: str) -> None:
        stops.clear()
        bench.machines[machine_id].hangs = False

    monkeypatch.setattr(controller.context.provider, "reboot", reboot)
    bench.watchers.changed = lambda what: stops.append(what) if what == "machine: stop" else None
    assert controller.run().outcome == Outcome.SUCCEEDED
    assert bench.runs() == {"serve": 2, "ask": 2}
    assert len(stops) == 2  # that one, and the service at the end
    assert unsafe(bench) == []


def test_a_setup_that_the_reboot_has_cut_short_is_the_machines_end(tmp_path: Path):
    """Half of it is there, and nobody knows which half: another machine is set up in its place."""
    bench, hung = bench_of("lambda", tmp_path, setup="prepare"), list[str]()

    def changed(where: str) -> None:
        if where == "machine: start" and not hung:
            hung.extend(bench.machines)
            bench.machines[hung[0]].hangs = True

    bench.watchers.changed = changed
    scripts = dict(bench.world.scripts) | {"prepare": Script(seconds=2000)}
    bench.world = replace(bench.world, scripts=scripts)
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    first, _ = machines(bench)
    assert (reboots(bench), bench.runs()["prepare"]) == (1, 2)
    assert first.reason == "its setup was cut short by the reboot"
    assert unsafe(bench) == []
