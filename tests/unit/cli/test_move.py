"""`run --move PLACE`: the plan starts over elsewhere, and its volume stays where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.report import leftover
from orchestrator.words.errors import NoMachine, UsageError
from orchestrator.words.lifecycle import Outcome
from tests.unit.cli.desk import Desk

PLAN = """
one:
  machine: {gpu: [A100-80GB]}
  volume: {name: data, size_gb: 10}
  steps: [{name: s, run: s}]
two:
  machine: {gpu: [A100-80GB]}
  volume: {name: data, size_gb: 10}
  steps: [{name: t, run: t, needs: [one/s]}]
"""
HERE, THERE = "EU-RO-1", "CA-MTL-3"


def moving() -> dict[str, Any]:
    """What --move THERE sets."""
    return {"moves_to": THERE, "place": THERE}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """The first phase is done, on a volume in Romania."""
    made = Desk(tmp_path, PLAN, place=HERE)
    assert made.run("one").outcome == Outcome.SUCCEEDED
    return made


def places(desk: Desk) -> list[tuple[str, bool]]:
    """Where each volume is, and whether it lives."""
    return [(row.place, not row.state.is_final) for row in desk.bench.ledger().volumes.all()]


def test_a_move_is_shown_with_what_it_does_again(desk: Desk):
    """The preview says from where to where, which finished steps run again, what stays behind, and prices them."""
    stays, goes = desk.propose("two"), desk.propose("two", **moving())
    assert stays.leaving == ""
    moves, behind = goes.leaving.splitlines()
    assert moves == f"moves from {HERE} to {THERE}; does again: one/s"
    assert behind.startswith(f"stays behind: {stays.volume}, $0.02 a day until `gpuplan down --volumes ")
    assert (goes.volume, goes.spec.place, goes.spec.seen_done) == ("", THERE, ())
    assert goes.preview.estimated_hours > stays.preview.estimated_hours


def test_a_moved_plan_starts_over_there_and_stays_there(desk: Desk):
    """All of it runs at the other place on a new volume, the old one lives on, and the next run is at the new one."""
    assert desk.run("two", **moving()).outcome == Outcome.SUCCEEDED
    assert desk.bench.runs() == {"s": 2, "t": 1}
    assert {row.place for row in desk.bench.ledger().machines.all()} == {HERE, THERE}
    assert places(desk) == [(HERE, True), (THERE, True)]
    left = leftover.kept(desk.bench.ledger(), desk.bench.spec)
    assert [line.partition(",")[0] for line in left] == [
        f"kept: volume desk-data in {where}" for where in (HERE, THERE)
    ]
    again = desk.propose("two", place=None, moves_to="")
    assert again.up_to_date


def test_a_plan_is_not_moved_to_where_it_is_or_where_nothing_is_sold(desk: Desk):
    """The same place is a mistake; one that does not sell the machine is refused with its name, and nothing is made."""
    with pytest.raises(UsageError, match=f"is in {HERE} already"):
        desk.propose("two", moves_to=HERE, place=HERE)
    with pytest.raises(NoMachine, match="not sold in MARS-1") as caught:
        desk.propose("two", moves_to="MARS-1", place="MARS-1")
    assert "--move PLACE" in caught.value.remedy
    assert places(desk) == [(HERE, True)]


def test_a_plan_does_not_move_back_to_a_volume_that_it_left(desk: Desk):
    """Two volumes of a plan at one place would be one too many: which to delete is the user's choice."""
    desk.run("two", **moving())
    with pytest.raises(UsageError, match=f"which the plan has left, is in {HERE} still"):
        desk.propose("two", moves_to=HERE, place=HERE)
