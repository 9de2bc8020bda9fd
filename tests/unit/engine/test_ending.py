"""A run that could not end: ended again for as long as something is left; a bill in words."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.engine.effects import Gone, NotGone, RunEnd
from orchestrator.engine.ending import Ending
from orchestrator.ledger.rows import RunRow, StepRow
from orchestrator.words.lifecycle import MachineState, Outcome, RunState, StepState, VolumeState
from orchestrator.words.provider import Capability
from orchestrator.words.spec import RunSpec, WorldSpec
from tests.unit.engine.stepping import START, Cloud, SteppingClock, context, machine
from tests.unit.engine.test_wanting import PLAN

NAME = "gpuplan-abcdefgh-1101-aaaa-only-1-t1764000000"
VOLUME = "gpuplan-abcdefgh-vol-p-data-1101-aaaa-t1764000000"


def ending(tmp_path: Path, *, machine_end: Any, volume_end: Any) -> tuple[Ending, Any]:
    """Of a run whose story is over, with a machine and a volume in the books."""
    clock = SteppingClock(passed=3600)
    cloud = Cloud()
    cloud.capabilities = frozenset()  # type: ignore[attr-defined]  # of a provider that bills nothing
    made = context(tmp_path, clock, cloud)
    made.spec = RunSpec(
        run=made.run, owner="abcdefgh", plan=PLAN, asked=("made", "only"), whole_plan=True, place=None, pull_root="/",
        created_at=1.0, world=WorldSpec(provider="p"),
    )  # fmt: skip
    made.event = lambda text, *, minor=False: made.ledger.event(made.run, text, minor=minor)
    made.ledger.runs.put(RunRow(id=made.run, state=RunState.TEARING_DOWN, created_at=1.0, outcome=Outcome.SUCCEEDED))
    made.ledger.machines.put(machine(NAME, provider_id="id", price_hour=Decimal("1.5"), state=MachineState.DESTROYING))
    row = SimpleNamespace(name=VOLUME, state="CREATED", price_hour=Decimal("0.01"))
    machines = SimpleNamespace(destroy_all=lambda names, reason: [(name, machine_end) for name in names])
    volumes = SimpleNamespace(row=lambda need: row, destroy=lambda name: volume_end)
    return Ending(made, cast("Any", machines), cast("Any", volumes)), made


def test_what_is_still_left_is_said_with_its_price(tmp_path: Path):
    """Machines first, with what they cost an hour; the books stay open."""
    end, made = ending(tmp_path, machine_end=NotGone("it is still listed"), volume_end=NotGone("503"))
    left = (f"{NAME} ($1.50 an hour; it is still listed)", f"{VOLUME} (503)")
    assert end.again() == RunEnd(Outcome.SUCCEEDED, left)
    assert made.ledger.runs.get(id=made.run).state == RunState.TEARING_DOWN


def test_once_nothing_is_left_the_books_are_closed(tmp_path: Path):
    """The outcome is the story's."""
    end, made = ending(tmp_path, machine_end=Gone(), volume_end=Gone())
    made.ledger.machines.move({"name": NAME}, MachineState.DESTROYED, gone_at=START.timestamp())
    assert end.again() == RunEnd(Outcome.SUCCEEDED, ())
    assert made.ledger.runs.get(id=made.run).state == RunState.DONE


@pytest.mark.parametrize(("count", "words"), [(1, "1 machine"), (2, "2 machines")])
def test_a_bill_is_said_with_what_it_is_for(tmp_path: Path, count: int, words: str):
    """All machines of the run that there were; each row knows its own part."""
    end, made = ending(tmp_path, machine_end=Gone(), volume_end=Gone())
    made.ledger.machines.remove(name=NAME)
    for number in range(count):
        gone = {"gone_at": START.timestamp() + 3600, "state": MachineState.DESTROYED}
        made.ledger.machines.put(machine(f"m{number}", provider_id=f"id-{number}", price_hour=Decimal(2), **gone))
    made.provider.capabilities = frozenset({Capability.BILLING})
    made.provider.billed = lambda ids: dict.fromkeys(ids, Decimal(2))
    end.settle()
    assert [e.text for e in made.ledger.events.all()] == [f"p has billed ${2 * count}.0000 for {words}"]
    assert {row.billed_usd for row in made.ledger.machines.all()} == {Decimal(2)}
    assert made.ledger.runs.get(id=made.run).settled


@pytest.mark.parametrize(
    ("outcome", "made_by", "begun", "state", "ended"),
    [
        (Outcome.SUCCEEDED, "1101-aaaa", True, VolumeState.CREATED, True),
        (Outcome.FAILED, "1101-aaaa", False, VolumeState.CREATED, True),  # this run's own, and empty
        (Outcome.FAILED, "1101-aaaa", True, VolumeState.CREATED, False),
        (Outcome.FAILED, "1031-zzzz", False, VolumeState.CREATED, False),  # what an earlier run did is on it
        (Outcome.FAILED, "1101-aaaa", True, VolumeState.DESTROYING, True),  # begun before
    ],
)
def test_a_volume_is_kept_while_work_is_on_it(
    tmp_path: Path, outcome: Outcome, made_by: str, state: VolumeState, *, begun: bool, ended: bool
):
    """It goes when the work is done, or where there can be none; else what it costs a day is said beside the rest."""
    end, made = ending(tmp_path, machine_end=Gone(), volume_end=NotGone("503"))
    name = f"gpuplan-abcdefgh-vol-p-data-{made_by}-t1764000000"
    row = SimpleNamespace(name=name, state=state, price_hour=Decimal("0.01"))
    made.spec = made.spec.model_copy(update={"world": WorldSpec(provider="p", dry_run=True)})  # success deletes it
    end._volumes = cast("Any", SimpleNamespace(row=lambda need: row, destroy=lambda name: NotGone("503")))
    step = StepRow(
        run=made.run, phase="made", id="made/s", position=0, state=StepState.DONE, started_at=1.0 if begun else None
    )
    made.ledger.steps.put(step)
    assert end.end_volumes(outcome) == [f"{name} (503)"] * ended
    said = [(event.text, event.minor) for event in made.ledger.events.all()]
    assert said == ([] if ended else [(f"{name}: kept, $0.24 a day", True)])
