"""What a later run makes of an earlier one's volume and answers: nothing of others is touched, nothing is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.testing.machine import Script
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import Outcome
from tests.unit.cli.desk import Desk

PLAN = """
one:
  machine: {gpu: [RTX-4090]}
  volume: {name: data, size_gb: 10}
  steps: [{name: make, run: make, creates: [out.txt]}]
"""
SAVING = f"{PLAN}  artifacts: [out.txt]\n"
ASKING = f"{PLAN}  deliverables: [{{name: large, file: out.txt, min_bytes: 1000}}]\n"
UNNAMED = f"settings: {{plan: ''}}\n{PLAN}"  # it is called as its folder is
MAKES = {"make": Script(creates={"out.txt": "made"})}


def left(desk: Desk) -> list[str]:
    """The names of the volumes that the cloud has."""
    return [volume.name for volume in desk._provider("runpod").volumes()]


def test_another_plan_of_the_same_name_does_not_get_the_volume(tmp_path: Path):
    """A volume belongs to the plan in its folder: both are named, nothing is rented; under another name all is well."""
    desk = Desk(tmp_path / "ours", UNNAMED, scripts={"make": Script(exit=1)})
    assert desk.run("one").outcome == Outcome.FAILED
    ours, desk.folder = desk.folder, tmp_path / "theirs"
    desk.write(UNNAMED)
    with pytest.raises(UsageError, match=rf"{ours}/plan; this one is in {desk.folder}/plan") as caught:
        desk.propose("one")
    assert "plan: NAME" in caught.value.remedy
    assert (len(left(desk)), len(desk.bench.ledger().machines.all())) == (1, 1)
    desk.write(f"settings: {{plan: theirs}}\n{PLAN}")
    desk.run("one")
    assert len(left(desk)) == 2


def test_a_plan_without_a_store_keeps_its_volume(tmp_path: Path):
    """With artifacts and nowhere to put them the only copy is on the volume: it is kept although all succeeded."""
    desk = Desk(tmp_path, SAVING, scripts=MAKES)
    assert desk.run("one").outcome == Outcome.SUCCEEDED
    assert len(left(desk)) == 1


def test_with_a_store_the_volume_of_a_whole_plan_goes(tmp_path: Path):
    """What was saved needs no volume any more."""
    desk = Desk(tmp_path, SAVING, scripts=MAKES, stores=1)
    assert desk.run("one").outcome == Outcome.SUCCEEDED
    assert left(desk) == []


def test_a_failed_deliverable_is_asked_again(tmp_path: Path):
    """Steps that are done do not make a failed run up to date; a file of another size is more work than previewed."""
    desk = Desk(tmp_path, ASKING, scripts=MAKES)
    assert desk.run("one").outcome == Outcome.FAILED
    assert not desk.propose("one").up_to_date
    assert desk.run("one").outcome == Outcome.FAILED
    assert desk.bench.runs()["make"] == 1
    (disk,) = desk.bench._disks.values()
    disk.files["/workspace/out.txt"] = b"x" * 2000
    assert desk.run("one").outcome == Outcome.OVER_BUDGET
