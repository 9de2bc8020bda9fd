"""The end of one machine: what was never sent, what got no answer, what is fresh, and what stays."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engine.effects import Gone, NotGone, NotReached, Reached
from orchestrator.engine.machines import Machines
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.provider import MachineView
from tests.unit.engine.stepping import START, Cloud, SteppingClock, charge, context, machine

NAME = "gpuplan-abcdefgh-1101-aaaa-only-1-t1764000000"


def machines(tmp_path: Path, clock: SteppingClock, cloud: Cloud, **values: Any) -> tuple[Machines, Any]:
    """Of a run with one machine of these values in its books."""
    cloud.rented = True  # type: ignore[attr-defined]
    made = context(tmp_path, clock, cloud)
    made.agents = SimpleNamespace(drop=lambda _name: None)
    made.event = lambda text, *, minor=False: made.ledger.event(made.run, text, minor=minor)
    made.ledger.machines.put(machine(NAME, **values))
    made.ledger.charges.put(charge(NAME))
    return Machines(made), made


def test_what_was_never_sent_is_gone_without_asking(tmp_path: Path):
    """Nothing can be there: its create was not sent."""
    cloud = Cloud()
    made, around = machines(tmp_path, SteppingClock(), cloud, sent_at=None)
    assert made.destroy(NAME, "failed") == Gone()
    assert cloud.asked == []
    row = around.ledger.machines.get(name=NAME)
    assert (row.state, row.reason) == (MachineState.DESTROYED, "failed")


def test_what_was_sent_and_got_no_answer_is_looked_for_and_ended(tmp_path: Path):
    """By its name: then it is ended as any other."""
    cloud = Cloud({"id-1": NAME})
    made, around = machines(tmp_path, SteppingClock(), cloud)
    around.spec.plan = SimpleNamespace(settings=SimpleNamespace(images={}, cpu_images={}))
    around.need = lambda _phase: SimpleNamespace(image="")
    assert made.destroy(NAME, "failed") == Gone()
    assert (cloud.there, around.ledger.machines.get(name=NAME).provider_id) == ({}, "id-1")


def test_what_never_appears_is_gone(tmp_path: Path):
    """Once no list can lag any more."""
    clock = SteppingClock()
    made, around = machines(tmp_path, clock, Cloud())
    assert made.destroy(NAME, "failed") == Gone()
    assert clock.passed >= 90
    assert around.ledger.machines.get(name=NAME).state == MachineState.LOST


@pytest.mark.parametrize(("age_s", "proof_s"), [(0, 60), (20, 40), (60, 0), (3600, 0)])
def test_what_is_fresh_is_not_believed_gone(tmp_path: Path, age_s: float, proof_s: float):
    """Nobody has seen it, and lists may lag for a minute: until then its absence proves nothing, and then at once."""
    cloud, clock = Cloud(), SteppingClock(passed=age_s)
    cloud.list_lag_s = 60.0
    values = {"state": MachineState.CREATED, "provider_id": "id-1", "accepted_at": START.timestamp()}
    made, around = machines(tmp_path, clock, cloud, **values)
    assert made.destroy(NAME, "failed") == Gone()
    assert proof_s <= clock.passed - age_s <= (proof_s + 10 if proof_s else 0)
    row = around.ledger.machines.get(name=NAME)
    assert (row.state, row.gone_at, row.reason) == (MachineState.DESTROYED, around.now(), "failed")
    assert [c.until for c in around.ledger.charges.all()] == [around.now()]


class Late(Cloud):
    """Shows a fresh machine, and that it costs 45, in its list first; a delete before that finds nothing."""

    shown = False

    def machines(self) -> list[MachineView]:
        found = [replace(view, price_hour=Decimal(45)) for view in super().machines()]
        self.shown = self.shown or bool(found)
        return found

    def machine(self, machine_id: str) -> MachineView | None:
        view = super().machine(machine_id)
        return replace(view, price_hour=Decimal(45)) if view else None

    def destroy(self, machine_id: str) -> None:
        if self.shown:
            super().destroy(machine_id)


def test_what_shows_its_price_at_its_end_only_is_charged_so(tmp_path: Path):
    """Nobody could look at it before: it was ended as soon as it was made, while the list lagged."""
    cloud = Late()
    clock = SteppingClock(at={10.0: lambda: cloud.there.update({"id-1": NAME})})
    cloud.list_lag_s = 60.0
    values = {"state": MachineState.CREATED, "provider_id": "id-1", "accepted_at": START.timestamp()}
    made, around = machines(tmp_path, clock, cloud, **values)
    assert made.destroy(NAME, "failed") == Gone()
    assert around.ledger.machines.get(name=NAME).price_hour == 45


def test_one_request_that_fails_hides_no_price(tmp_path: Path):
    """What nobody has reached is looked at before it is ended, and again where that fails."""
    cloud = Late({"id-1": NAME}, refusals=1)
    cloud.shown = True  # so that the first delete ends it
    made, around = machines(tmp_path, SteppingClock(), cloud, state=MachineState.CREATED, provider_id="id-1")
    assert made.destroy(NAME, "failed") == Gone()
    assert around.ledger.machines.get(name=NAME).price_hour == 45


def test_what_stays_is_said_and_stays_in_the_books(tmp_path: Path):
    """The provider does not answer: it may still cost, and so it does in the ledger."""
    values = {"state": MachineState.CREATED, "provider_id": "id-1", "accepted_at": START.timestamp()}
    made, around = machines(tmp_path, SteppingClock(), Cloud({"id-1": NAME}, refusals=9999), **values)
    assert made.destroy_all([NAME], "failed") == [(NAME, NotGone("503"))]
    assert around.ledger.machines.get(name=NAME).state == MachineState.DESTROYING
    assert [event.text for event in around.ledger.events.all()] == [f"{NAME}: not proven gone: 503"]


def test_one_that_cannot_even_be_asked_about_keeps_no_other_alive(tmp_path: Path):
    """Whatever is raised: it is said, and counts as not gone."""
    made, around = machines(tmp_path, SteppingClock(), Cloud(), state=MachineState.CREATED, provider_id="id-1")
    around.agents.drop = lambda name: 1 / 0
    assert made.destroy(NAME, "failed") == NotGone("division by zero")
    assert [event.text for event in around.ledger.events.all()] == [f"{NAME}: could not be ended: division by zero"]


def test_why_a_machine_did_not_come_up_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of each that did not: such a type at such a place is left out for a while."""
    made, around = machines(tmp_path, SteppingClock(), Cloud())
    other = machine(f"{NAME}0", request="1.1.0", node=1)
    around.ledger.machines.put(other)
    ends = [NotReached("it never answered"), Reached()]
    monkeypatch.setattr(made, "_wait", lambda _names, _ready: ends)
    assert made.wait([NAME, other.name]) == ends
    assert [row.failed for row in around.ledger.machines.all()] == ["it never answered", ""]


def test_a_cut_is_said_once_however_many_are_cut_with_it(tmp_path: Path):
    """As long as tries follow each other; another machine's, and a later one, are said too."""
    clock = SteppingClock()
    made, around = machines(tmp_path, clock, Cloud())
    for wait_s in (0, 0, 30, 60, 60, 300):
        clock.sleep(wait_s)
        made.was_cut(NAME, "reset")
    made.was_cut("another", "reset")
    said = [event.text.partition(":")[0] for event in around.ledger.events.all()]
    assert said == [NAME, NAME, "another"]
