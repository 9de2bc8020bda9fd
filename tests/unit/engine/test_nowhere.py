"""Machines that come up nowhere: the driver is asked for, two of them end the search, nothing unused is kept."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.engine.effects import RunEnd
from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import Bench
from orchestrator.words.lifecycle import Outcome
from tests.unit.engine.stories import Story

QUARTER_HOUR_USD = Decimal("0.75")  # of the dearest of two machines that such a phase may try, with teardown


def ran(tmp_path: Path, story: str, *faults: str, cuda: bool = True) -> tuple[Bench, RunEnd]:
    """That story's end where these disasters come. `cuda` False: nobody says what the image needs of a driver."""
    (tmp_path / "home").mkdir()
    told = Story.load(story, tmp_path / "plan")
    if not cuda:
        plan = told.plan.model_copy(update={"settings": told.plan.settings.model_copy(update={"cuda": {}})})
        told = replace(told, plan=plan)
    bench = replace(told, world=replace(told.world, faults=faults)).bench(tmp_path / "home")
    return bench, bench.controller().run()


def why(bench: Bench) -> str:
    """Why its only phase ended so."""
    (phase,) = bench.ledger().phases.all()
    return phase.error


def test_only_machines_with_a_driver_that_is_new_enough_are_asked_for(tmp_path: Path):
    """The image needs CUDA 12.8, half the hosts are older: the first machine comes up."""
    bench, end = ran(tmp_path, "one-phase")
    assert (end.outcome, len(bench.creates())) == (Outcome.SUCCEEDED, 1)


@pytest.mark.parametrize("story", ["one-phase", "two-nodes"])
def test_two_machines_that_come_up_nowhere_end_the_search(tmp_path: Path, story: str):
    """Hosts with old drivers never get an address: after two for a node nothing dearer is tried, and it is said why."""
    bench, end = ran(tmp_path, story, cuda=False)
    assert (end.outcome, len(bench.creates())) == (Outcome.NO_MACHINE, 2)
    assert "2 machines came up nowhere" in why(bench)
    assert "it lacked an address" in why(bench)
    assert "unsatisfied condition: cuda>=12.8" in why(bench)
    assert sum(map(Decimal, bench.clouds.invoice()["machines"].values())) < QUARTER_HOUR_USD
    assert unsafe(bench) == []


def test_a_new_volume_that_nobody_used_is_deleted(tmp_path: Path):
    """No machine was ever reached: the volume that was made for them is empty, and costs nothing more."""
    bench, _ = ran(tmp_path, "failure", cuda=False)
    assert bench.clouds.volumes_left() == []


def test_a_volume_that_was_used_is_kept(tmp_path: Path):
    """The first machine did its step, its successors came up nowhere: what is on the volume is kept."""
    (tmp_path / "home").mkdir()
    bench = Story.load("preempted", tmp_path / "plan").bench(tmp_path / "home")
    begun = bench.clouds.step_started

    def then_nothing_boots(step: str, machine: str) -> None:
        begun(step, machine)
        if step.endswith("second"):
            bench.clouds.fault("boot-never", count=2)

    bench.clouds.step_started = then_nothing_boots  # type: ignore[method-assign]  # the disaster comes in the middle
    assert bench.controller().run().outcome == Outcome.NO_MACHINE
    assert (len(bench.creates()), len(bench.clouds.volumes_left())) == (3, 1)


def test_one_machine_that_comes_up_nowhere_is_followed_by_another(tmp_path: Path):
    """One host whose driver is older than it says: the next machine does the work."""
    bench, end = ran(tmp_path, "one-phase", "boot-old-driver")
    assert (end.outcome, len(bench.creates())) == (Outcome.SUCCEEDED, 2)


def test_a_key_that_may_not_create_ends_the_search(tmp_path: Path):
    """403 "access denied" is about the account: no other type or place is tried, and the words are the provider's."""
    bench, end = ran(tmp_path, "one-phase", "create-refused-access")
    assert (end.outcome, bench.creates()) == (Outcome.NO_MACHINE, [])
    assert "access denied" in why(bench)
    posts = [call for call in bench.clouds.calls if (call.method, call.path) == ("POST", "/v2/pods")]
    assert len(posts) == 1


def test_a_pool_that_is_closed_is_followed_by_another_type(tmp_path: Path):
    """403 for a pool is about that kind of machine alone."""
    bench, end = ran(tmp_path, "one-phase", "create-refused-pool")
    assert (end.outcome, len(bench.creates())) == (Outcome.SUCCEEDED, 1)


def test_memory_and_processors_are_asked_for(tmp_path: Path):
    """A host may have little memory and two vCPUs a card: four and the card's memory are asked for."""
    bench, _ = ran(tmp_path, "one-phase")
    (create,) = [call for call in bench.clouds.calls if (call.method, call.path) == ("POST", "/v2/pods")]
    assert (create.body["gpu"]["minVcpuCountPerGpu"], create.body["gpu"]["minRamPerGpu"]) == (4, 24)
