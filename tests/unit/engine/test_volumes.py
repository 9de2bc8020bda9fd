"""The end of a volume: what was never asked for, what is fresh, and what is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.effects import Gone
from orchestrator.engine.volumes import APPEAR_S, Volumes
from orchestrator.ledger.rows import VolumeRow
from orchestrator.words.lifecycle import VolumeState
from tests.unit.engine.stepping import START, SteppingClock, context
from tests.unit.engine.test_reaper import Disks

NAME = "gpuplan-abcdefgh-vol-data-1101-aaaa-t1764000000"


def volumes(tmp_path: Path, passed: float, cloud: Disks, **values: Any) -> tuple[Volumes, Any]:
    """Of a run with one volume of these values in its books."""
    made = context(tmp_path, SteppingClock(passed), cloud)
    made.event = lambda text, *, minor=False: made.ledger.event(made.run, text, minor=minor)
    given = {"run": made.run, "label": "data", "provider": "p", "state": VolumeState.CREATED} | values
    made.ledger.volumes.put(VolumeRow(name=NAME, **given))
    return Volumes(made), made


@pytest.mark.parametrize("known", ["accepted_at", "sent_at"])
@pytest.mark.parametrize(("age_s", "proof_s"), [(0, APPEAR_S), (30, APPEAR_S - 30), (APPEAR_S, 0), (3600, 0)])
def test_the_absence_of_a_fresh_volume_proves_nothing(tmp_path: Path, age_s: float, proof_s: float, known: str):
    """It may be listed late: until then its delete is sent again and again, and then it is gone."""
    times = {"sent_at": START.timestamp(), known: START.timestamp()}
    made, around = volumes(tmp_path, age_s, Disks(), **times)
    assert made.destroy(NAME) == Gone()
    assert proof_s <= around.clock.passed - age_s <= (proof_s + 10 if proof_s else 0)
    assert around.ledger.volumes.get(name=NAME).state == VolumeState.DESTROYED


def test_one_that_was_never_asked_for_is_gone_at_once(tmp_path: Path):
    """Nothing is fresh."""
    made, around = volumes(tmp_path, 0.0, Disks())
    assert made.destroy(NAME) == Gone()
    assert around.clock.waits == []


def test_one_whose_create_got_no_answer_is_found_by_its_name(tmp_path: Path):
    """And deleted by the id that it has there."""
    cloud = Disks(disks={"v-1": NAME, "v-2": "another"})
    made, around = volumes(tmp_path, 3600.0, cloud, sent_at=START.timestamp())
    assert made.destroy(NAME) == Gone()
    assert (list(cloud.disks), around.ledger.volumes.get(name=NAME).provider_id) == (["v-2"], "v-1")
