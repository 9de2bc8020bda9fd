"""Where a plan's volume is made: it cannot move, and machines of several nodes must reach each other there."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import pytest

from orchestrator.rehearsal.clouds.catalogue import PLACES
from orchestrator.words.errors import NoMachine
from orchestrator.words.lifecycle import Outcome
from tests.e2e.tool import PROJECT
from tests.unit.cli.desk import Desk

SHIPPED = ("day1", "day2-3", "day4-5", "day6-7")
PLAN = """
one:
  machine: {gpu: [A100-80GB]}
  volume: {name: data, size_gb: 10}
  steps: [{name: s, run: s}]
two:
  machine: {gpu: [A100-80GB], nodes: 2}
  volume: {name: data, size_gb: 10}
  steps: [{name: t, run: t}]
"""
ELSEWHERE = PLAN.replace(
    "name: data, size_gb: 10}\n  steps: [{name: t", "name: other, size_gb: 10}\n  steps: [{name: t"
)


@pytest.mark.parametrize("asked", [(p,) for p in SHIPPED] + list(combinations(SHIPPED, 2)), ids="+".join)
def test_the_shipped_plan_finds_a_place_with_a_private_network(tmp_path: Path, asked: tuple[str, ...]):
    """Each phase by itself, and each pair: later ones need two nodes on the volume that the first one makes."""
    desk = Desk(tmp_path, PLAN, place=None, stores=1)
    shutil.rmtree(tmp_path / "plan")
    shutil.copytree(PROJECT / "phases", tmp_path / "plan" / "phases")
    (tmp_path / "plan" / "code").mkdir()
    (tmp_path / "plan" / "gpuplan.yaml").write_text("plan: desk\ncode: code\n")
    place = desk.propose(*asked, stores=("memory://store0",)).spec.place
    assert place
    assert PLACES[place].global_network


def test_the_first_phase_alone_makes_the_volume_where_the_second_can_work(tmp_path: Path):
    """Of places at one price the first by name has no private network: the volume is not made there."""
    desk = Desk(tmp_path, PLAN, place=None)
    assert desk.run("one").outcome == Outcome.SUCCEEDED
    assert desk.run("two").outcome == Outcome.SUCCEEDED
    assert {row.place for row in desk.bench.ledger().machines.all()} == {"EU-RO-1"}


def test_a_phase_of_one_node_may_be_anywhere(tmp_path: Path):
    """Where no phase with several nodes shares the volume, the first of the cheapest places is taken."""
    assert Desk(tmp_path, ELSEWHERE, place=None).propose("one").spec.place == "CA-MTL-1"


def test_a_volume_without_a_private_network_is_said_before_anything_is_made(tmp_path: Path):
    """The volume is where it is: a phase of two nodes is refused with that place's name, and nothing is asked for."""
    desk = Desk(tmp_path, PLAN, place="CA-MTL-3")
    assert desk.run("one").outcome == Outcome.SUCCEEDED
    before = len(desk.bench.creates())
    with pytest.raises(
        NoMachine, match=r"two needs 1x A100-80GB, 2 nodes: not sold in CA-MTL-3 with a private network"
    ):
        desk.propose("two")
    assert len(desk.bench.creates()) == before
