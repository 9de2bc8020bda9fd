"""No capacity: the next place, type or provider as long as no volume fixes the place; then the wait for a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import failover
from orchestrator.cli.flags import seconds
from orchestrator.engine.effects import RunEnd
from orchestrator.runner import Result
from orchestrator.testing import bench
from orchestrator.testing.audit import unsafe
from orchestrator.testing.machine import Script
from orchestrator.words.errors import NoCapacity, UsageError
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.provider import Offer
from orchestrator.words.spec import RunSpec
from tests.unit.cli.desk import Desk
from tests.unit.cli.test_market import Spots
from tests.unit.engine.stepping import SteppingClock

ONE = "large: {machine: {gpu: [A100-80GB]}, volume: {name: data, size_gb: 10}, steps: [{name: l, run: l}]}"
TWO = """
first: {volume: {name: data, size_gb: 10}, steps: [{name: f, run: f, gpu: false, creates: [f]}]}
large: {machine: {gpu: [A100-80GB]}, volume: {name: data, size_gb: 10}, steps: [{name: l, run: l, needs: [first/f]}]}
"""


class Few(Spots):
    """A provider that sells at two places only."""

    def offers(self, *, gpus: int, spot: bool, min_cuda: str = "") -> list[Offer]:
        found: list[Offer] = self._provider.offers(gpus=gpus, spot=spot, min_cuda=min_cuda)
        return [offer for offer in found if offer.place in ("CA-MTL-1", "EU-RO-1")]


def next_run(desk: Desk, end: RunEnd, number: int) -> RunSpec | None:
    """What `gpuplan run` goes on with after that end."""
    spec = desk.bench.spec
    return failover.following(
        desk.bench.ledger(), spec, Result(end.outcome, end.left), f"{spec.run.partition('.')[0]}.{number}"
    )


def go_on(desk: Desk, spec: RunSpec) -> RunEnd:
    """Choose for it as the command does, and bring it to its end."""
    world = desk._world()
    from orchestrator.cli.proposal import propose
    from orchestrator.transport.code import Code

    code = Code(desk.folder / "no")
    desk.bench.spec = propose(world, spec, code, only=False, check=False, strictly=True, chain=True).spec
    return desk.bench.controller().run()


def test_the_same_type_is_tried_at_the_next_place_before_a_dearer_one(tmp_path: Path):
    """What is wanted is sold out where the run began: it goes on elsewhere, and its unused volume is deleted."""
    desk = Desk(tmp_path, ONE, place=None, faults=("create-refused-capacity@2",))
    end = desk.run("all")
    (first,) = {row.place for row in desk.bench.ledger().machines.all()}
    assert (end.outcome, desk.bench.creates(), desk.bench.clouds.volumes_left()) == (Outcome.NO_MACHINE, [], [])
    wanted = next_run(desk, end, 2)
    assert wanted
    assert go_on(desk, wanted).outcome == Outcome.SUCCEEDED
    last = desk.bench.ledger().machines.all()[-1]
    assert (last.gpu, last.run) == ("A100-80GB", wanted.run)
    assert last.place != first
    assert unsafe(desk.bench) == []


def test_a_move_is_to_that_place_only(tmp_path: Path):
    """With --move the place is the user's choice: the run that goes on looks for a machine there, and nowhere else."""
    desk = Desk(tmp_path, ONE, place="EU-RO-1", faults=("create-refused-capacity@99",))
    end = desk.run("large", moves_to="EU-RO-1")
    assert end.outcome == Outcome.NO_MACHINE
    spec = next_run(desk, end, 2)
    assert spec
    assert (spec.place, spec.moves_to) == ("EU-RO-1", "EU-RO-1")


def test_the_next_provider_comes_when_nothing_is_left_at_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As long as no volume and no flag fixes it; a dearer type waits until no place has the one that is wanted."""
    desk = Desk(tmp_path, ONE, place=None, faults=("create-refused-capacity@99",))
    monkeypatch.setattr(bench, "_provider", lambda made: desk._provider(made.spec.world.provider))
    desk.providers["runpod"] = Few(desk._provider("runpod"))
    end, seen = desk.run("all"), []
    for number in range(2, 30):
        wanted = next_run(desk, end, number)
        assert wanted
        try:
            end = go_on(desk, wanted)
        except NoCapacity:
            break
        seen.append(desk.bench.spec.world.provider)
        if desk.bench.spec.movable:
            assert len({row.gpu for row in desk.bench.ledger().machines.all(run=wanted.run)}) == 1
    assert list(dict.fromkeys(seen)) == ["runpod", "lambda"]
    assert desk.bench.clouds.volumes_left() == []
    named = desk.bench.spec.model_copy(update={"asked_provider": "runpod"})
    desk.bench.spec = named
    again = next_run(desk, end, 31 - 2)
    assert again
    assert again.world.provider == "runpod"


def test_a_volume_with_something_on_it_fixes_the_place(tmp_path: Path):
    """What the first phase made lies there: only that place is looked at, and there everything of a size that fits."""
    desk = Desk(tmp_path, TWO, place=None, scripts={"f": Script(creates={"f": "1"})})
    assert desk.run("first").outcome == Outcome.SUCCEEDED
    proposal = desk.propose("large")
    assert (proposal.spec.place, proposal.spec.movable) == (desk.bench.spec.place, False)


@pytest.mark.parametrize("fault", ["boot-no-gpu", "boot-old-driver"])
def test_one_machine_that_does_not_come_up_does_not_end_the_search(tmp_path: Path, fault: str):
    """The place that was chosen has one machine of that type, and it is broken: another place has the same type."""
    desk = Desk(tmp_path, ONE, place=None, faults=(fault,))
    end = desk.run("all")
    assert (end.outcome, len(desk.bench.creates())) == (Outcome.NO_MACHINE, 1)
    wanted = next_run(desk, end, 2)
    assert wanted
    assert go_on(desk, wanted).outcome == Outcome.SUCCEEDED
    first, second = desk.bench.ledger().machines.all()
    assert (first.gpu, first.place != second.place) == (second.gpu, True)
    assert unsafe(desk.bench) == []


def test_two_machines_that_do_not_come_up_end_the_search(tmp_path: Path):
    """The second one is of the run that went on elsewhere."""
    desk = Desk(tmp_path, ONE, place=None, faults=("boot-never@2",))
    wanted = next_run(desk, desk.run("all"), 2)
    assert wanted
    end = go_on(desk, wanted)
    assert (end.outcome, len(desk.bench.creates())) == (Outcome.NO_MACHINE, 2)
    assert next_run(desk, end, 3) is None
    assert desk.bench.clouds.volumes_left() == []


def test_what_is_wrong_elsewhere_too_is_not_tried_again(tmp_path: Path):
    """An account that is refused ends the run for good."""
    desk = Desk(tmp_path, ONE, place=None, faults=("create-refused-payment",))
    end = desk.run("all")
    assert end.outcome == Outcome.NO_MACHINE
    assert next_run(desk, end, 2) is None


def test_machines_are_waited_for_as_long_as_was_said(capsys: pytest.CaptureFixture[str]):
    """Asked again each minute, the reason said once; what is left of the time is for the next wait."""
    clock, asked = SteppingClock(), list[float]()

    def ask(*, first: bool) -> str:
        assert first == (not asked)
        asked.append(clock.passed)
        if clock.passed < 150:
            raise NoCapacity("no provider serves this run")
        return "one"

    assert failover.waiting(clock, 600, ask) == ("one", 420.0)
    assert asked == [0, 60, 120, 180]
    assert capsys.readouterr().err.count("waiting for a machine until") == 1
    with pytest.raises(NoCapacity):
        failover.waiting(clock, 0, lambda **_: (_ for _ in ()).throw(NoCapacity("none")))


def test_a_time_is_written_as_in_a_phase_file():
    """2h, 30m, 1h30m; anything else is refused with the flag's name."""
    assert [seconds("--wait", text) for text in ("2h", "1h30m", "90s", None)] == [7200, 5400, 90, 0]
    with pytest.raises(UsageError, match="--wait: a duration such as"):
        seconds("--wait", "soon")
