"""What is found by name is ended, and the ledger learns of it: its id, its span, its cost."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.engine import leftovers
from orchestrator.engine.accounting import accrued
from orchestrator.ledger.rows import RunRow
from orchestrator.words.errors import GpuplanError
from orchestrator.words.lifecycle import MachineState, RunState
from tests.unit.engine.stepping import START, Cloud, SteppingClock, charge, context, machine

NAME = "gpuplan-abcdefgh-1101-aaaa-only-1-t1764000000"


def test_a_machine_that_came_true_after_it_was_given_up_is_ended_and_paid(tmp_path: Path):
    """The ledger had it as never appeared; it has its id then, and costs until its end."""
    clock = SteppingClock(passed=100)
    made = context(tmp_path, clock, Cloud({"id-1": NAME}))
    made.ledger.runs.put(RunRow(id=made.run, state=RunState.TEARING_DOWN, created_at=START.timestamp()))
    made.ledger.machines.put(machine(NAME, state=MachineState.LOST, gone_at=START.timestamp() + 20))
    made.ledger.charges.put(charge(NAME, until=START.timestamp() + 20))
    assert accrued(made.ledger, made.run) == 0
    assert leftovers.sweep(made, "failed") == []
    row = made.ledger.machines.get(name=NAME)
    assert (row.provider_id, row.state, row.gone_at) == ("id-1", MachineState.LOST, START.timestamp() + 100)
    assert accrued(made.ledger, made.run) == Decimal("1.00")
    assert made.provider.there == {}


def test_what_ended_while_nothing_could_be_written_is_written_down_later(tmp_path: Path):
    """A note in a file that was there before keeps id and moment; the ledger takes it, and the note is empty."""
    made = context(tmp_path, SteppingClock(passed=50), Cloud({"id-1": NAME}))
    made.ledger.runs.put(RunRow(id=made.run, state=RunState.RUNNING, created_at=START.timestamp()))
    made.ledger.machines.put(machine(NAME))
    made.ledger.charges.put(charge(NAME))
    leftovers.reserve(tmp_path)
    assert leftovers.end_unwritten(made) == f"{NAME} was ended"
    assert made.ledger.machines.get(name=NAME).state == MachineState.REQUESTED
    made.clock.sleep(10_000)
    leftovers.recall(made)
    row = made.ledger.machines.get(name=NAME)
    assert (row.state, row.provider_id) == (MachineState.DESTROYED, "id-1")
    assert accrued(made.ledger, made.run) == Decimal("0.50")
    assert json.loads((tmp_path / "ended-unwritten").read_text()) == []


def test_one_503_at_the_last_look_is_asked_again(tmp_path: Path):
    """The last list is repeated within the deadline: an answer that comes late is an answer."""
    made = context(tmp_path, SteppingClock(), Cloud(refusals=5))
    assert leftovers.sweep(made, "succeeded") == []
    assert made.provider.asked == ["list"] * 6


def test_an_api_that_stays_away_is_said_and_not_taken_for_an_empty_list(tmp_path: Path):
    """When the deadline is over, what may be left is said in words."""
    made = context(tmp_path, SteppingClock(), Cloud(refusals=10_000))
    assert leftovers.sweep(made, "succeeded") == ["p could not be asked what is left: 503"]
    with pytest.raises(GpuplanError):
        leftovers.listed(made)


@pytest.mark.parametrize(("price", "costs"), [(None, ""), (Decimal("1.5"), "$1.50 an hour; ")])
def test_what_cannot_be_ended_is_said_with_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, price: Decimal | None, costs: str
):
    """By what the provider says of its price, where it says so."""
    made = context(tmp_path, SteppingClock(), Cloud({"id-1": NAME}))
    (view,) = made.provider.machines()
    monkeypatch.setattr(made.provider, "machines", lambda: [replace(view, price_hour=price)])
    assert leftovers.sweep(made, "failed") == [f"{NAME} ({costs}it is still listed)"]


def test_machines_of_other_runs_are_left_alone(tmp_path: Path):
    """A run that follows (RUN.2), another owner, and what the ledger has under another run."""
    others = {
        "a": "gpuplan-abcdefgh-1101-aaaa-2-only-1-t1764000000",
        "b": "gpuplan-zzzzzzzz-1101-aaaa-only-1-t1764000000",
        "c": "gpuplan-abcdefgh-1101-aaaa-3-1-t1764000000",
    }
    made = context(tmp_path, SteppingClock(), Cloud(dict(others)))
    made.ledger.machines.put(machine(others["c"], run="1101-aaaa.3", state=MachineState.LOST))
    assert leftovers.sweep(made, "failed") == []
    assert made.provider.there == others
