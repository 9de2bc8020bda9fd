"""A create that got no answer: what became of it is looked for by name, and an absence must be seen to be believed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engine.creation import APPEAR_S, Creations
from orchestrator.engine.effects import Created, Refused, Unknown
from orchestrator.ledger.rows import MachineRow
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.model import MachineNeed, Phase, Plan
from tests.unit.engine.stepping import Cloud, SteppingClock, charge, context, machine

NAME = "gpuplan-abcdefgh-1101-aaaa-only-1-t1764000000"
UNSEEN = "nobody looked for it in the"


def creations(tmp_path: Path, clock: SteppingClock, cloud: Cloud) -> tuple[Creations, Any]:
    """Of a run whose create was sent at the clock's start."""
    made = context(tmp_path, clock, cloud)
    made.need = lambda phase: MachineNeed()
    made.spec.plan = Plan(name="p", phases=(Phase(name="only", steps=()),))
    made.event = lambda text, *, minor=False: made.ledger.event(made.run, text, minor=minor)
    made.ledger.machines.put(machine(NAME))
    made.ledger.charges.put(charge(NAME))
    return Creations(made), made


def row(made: Any) -> MachineRow:
    found: MachineRow = made.ledger.machines.get(name=NAME)
    return found


@pytest.mark.parametrize("lag_s", [0.0, 100.0])
def test_one_that_never_appears_is_lost_once_the_list_cannot_lag_any_more(tmp_path: Path, lag_s: float):
    """Ninety seconds at least, half as long again as the provider's list may lag; then it cost nothing."""
    clock, cloud = SteppingClock(), Cloud()
    cloud.list_lag_s = lag_s
    made, around = creations(tmp_path, clock, cloud)
    assert made.reconcile(NAME, "no answer") == Refused("no answer; it never appeared")
    assert max(APPEAR_S, 1.5 * lag_s) <= clock.passed < max(APPEAR_S, 1.5 * lag_s) + 10
    assert (row(around).state, row(around).reason) == (MachineState.LOST, "never appeared: no answer")


def test_one_that_appears_is_taken_for_ours(tmp_path: Path):
    """By its name: its id is written down, and nothing is created anew."""
    cloud = Cloud()
    clock = SteppingClock(at={20: lambda: cloud.there.update({"id-1": NAME, "id-2": "another"})})
    made, around = creations(tmp_path, clock, cloud)
    assert made.reconcile(NAME, "no answer") == Created("id-1")
    assert (row(around).state, row(around).provider_id) == (MachineState.CREATED, "id-1")
    assert row(around).accepted_at == around.now()


def test_a_list_that_was_not_seen_proves_nothing(tmp_path: Path):
    """The provider does not answer for all of the time: it may exist, and is no further looked for as lost."""
    made, around = creations(tmp_path, SteppingClock(), Cloud(refusals=999))
    end = made.reconcile(NAME, "no answer")
    assert end == Unknown("no answer; p cannot be asked whether it exists: 503")
    assert row(around).state == MachineState.REQUESTED


@pytest.mark.parametrize(("away_s", "said"), [(0, False), (APPEAR_S, False), (APPEAR_S + 1, True)])
def test_only_a_while_in_which_nobody_looked_is_said(tmp_path: Path, away_s: float, *, said: bool):
    """Whoever was away longer than the list may lag cannot know what was made and ended meanwhile."""
    made, around = creations(tmp_path, SteppingClock(passed=away_s), Cloud())
    made.reconcile(NAME, "no answer")
    assert any(UNSEEN in event.text for event in around.ledger.events.all()) == said


def test_what_may_have_been_spent_unseen_is_said_in_dollars(tmp_path: Path):
    """Two hours at $36: no account here can have them."""
    made, around = creations(tmp_path, SteppingClock(passed=7200), Cloud())
    made.reconcile(NAME, "no answer")
    (said,) = [event.text for event in around.ledger.events.all() if UNSEEN in event.text]
    assert "in the 2.0 hours after its create was sent" in said
    assert "up to $72.00" in said


def test_a_create_that_was_cut_short_is_not_sent_again(tmp_path: Path):
    """What was sent before a crash is looked for; only what was never sent is."""
    cloud = Cloud({"id-1": NAME})
    made, _ = creations(tmp_path, SteppingClock(), cloud)
    assert made.create(NAME, MachineNeed(), None) == Created("id-1")
    assert cloud.asked == ["list"]
    assert made.create(NAME, MachineNeed(), None) == Created("id-1")
    assert cloud.asked == ["list"]


def test_a_machine_needs_its_volume_to_be_there(tmp_path: Path):
    """A volume that was asked for and has no id yet: nothing is created that could not be given it."""
    made, around = creations(tmp_path, SteppingClock(), Cloud())
    around.ledger.machines.change({"name": NAME}, sent_at=None)
    with pytest.raises(Exception, match="does not list it yet"):
        made.create(NAME, MachineNeed(), SimpleNamespace(name="v", provider_id=""))  # type: ignore[arg-type]
    assert row(around).sent_at is None
