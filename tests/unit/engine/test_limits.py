"""What a run may not pass: looked at in the ledger, on a clock that somebody may set."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engine.accounting import accrued
from orchestrator.engine.control import Reason
from orchestrator.engine.limits import Cap, Limits, lasting_s
from orchestrator.ledger.rows import PhaseRow, RunRow
from orchestrator.words.lifecycle import PhaseState, RunState
from tests.unit.engine.stepping import START, SteppingClock, charge, context, machine


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """A run whose one phase holds a machine at $36 an hour: a cent a second."""
    found = context(tmp_path, SteppingClock())
    phase = SimpleNamespace(budget_usd=None, timeout=3600.0)
    found.spec.plan = SimpleNamespace(settings=SimpleNamespace(budget_usd=None), phase=lambda _name: phase)
    found.phase = phase
    begun = START.timestamp()
    found.ledger.runs.put(RunRow(id=found.run, state=RunState.RUNNING, created_at=begun))
    found.ledger.phases.put(PhaseRow(run=found.run, name="only", state=PhaseState.PROVISIONING, started_at=begun))
    found.ledger.machines.put(machine("m"))
    found.ledger.charges.put(charge("m"))
    found.limits = Limits(found.ledger, found.spec, found.clock)
    return found


def test_nothing_stops_a_run_within_its_limits(made: Any):
    """No word, no budget, no time used up: it goes on."""
    made.clock.sleep(60)
    assert made.limits.reason() is None


def test_a_word_in_the_ledger_stops_it(made: Any):
    """What another process wrote down is the reason."""
    made.ledger.runs.change({"id": made.run}, stop="stopped by gpuplan down")
    assert made.limits.reason() == Reason("interrupted", "stopped by gpuplan down")


@pytest.mark.parametrize("state", [PhaseState.PROVISIONING, PhaseState.RUNNING, PhaseState.COLLECTING])
def test_a_phases_budget_is_watched_from_its_first_machine_on(made: Any, state: PhaseState):
    """While a machine boots, while steps run, while files are collected: what accrued counts, and what ending takes."""
    row = made.ledger.phases.get(name="only")
    made.ledger.phases.put(replace(row, state=state))
    made.phase.budget_usd = Decimal("1.30")
    made.clock.sleep(9)
    assert made.limits.reason() is None
    made.clock.sleep(2)
    said = "$0.1100 are spent, up to $1.2000 more are needed to end what runs; the budget of only is $1.30"
    assert made.limits.reason() == Reason("over_budget", said)


def test_half_of_a_budget_four_fifths_and_all_of_it_are_said_once(made: Any):
    """A note each, whoever drives the run from then on, for the run's budget and the phase's."""
    made.phase.budget_usd, made.spec.plan.settings.budget_usd = Decimal(4), Decimal(20)
    for _ in range(30):
        made.clock.sleep(10)
        made.limits.reason()
    Limits(made.ledger, made.spec, made.clock).reason()
    assert [event.text for event in made.ledger.events.all(run=made.run)] == [
        "50 % of the budget of only ($4) is spent",
        "100 % of the budget of only ($4) is spent, or kept for ending what runs",
    ]


def test_a_budget_lasts_as_long_as_what_lives_lets_it(made: Any):
    """The scarcer of run's and phase's decides; another machine beside makes it shorter; none is for ever."""
    assert lasting_s(made.ledger, made.spec, "only") == math.inf
    made.spec.plan.settings.budget_usd = Decimal(20)
    made.phase.budget_usd = Decimal(4)
    assert lasting_s(made.ledger, made.spec, "only") == 400
    assert lasting_s(made.ledger, made.spec, "only", Decimal(36)) == 200
    made.phase.budget_usd = Decimal(40)
    assert lasting_s(made.ledger, made.spec, "only") == 2000


@pytest.mark.parametrize("state", [PhaseState.PROVISIONING, PhaseState.RUNNING, PhaseState.COLLECTING])
def test_a_phases_time_out_acts_from_its_beginning(made: Any, state: PhaseState):
    """The time of a boot counts too."""
    made.ledger.phases.put(replace(made.ledger.phases.get(name="only"), state=state))
    made.clock.sleep(3599)
    assert made.limits.reason() is None
    made.clock.sleep(2)
    assert made.limits.reason() == Reason("failed", "only took longer than its time-out of 3600 s")


@pytest.mark.parametrize("state", [PhaseState.PLANNED, PhaseState.TEARING_DOWN, PhaseState.DONE])
def test_a_phase_that_is_not_under_way_has_no_time_out(made: Any, state: PhaseState):
    """What is being ended is not stopped once more."""
    made.ledger.phases.put(replace(made.ledger.phases.get(name="only"), state=state))
    made.clock.sleep(7200)
    assert made.limits.reason() is None


@pytest.mark.parametrize(("hours", "way"), [(3, "forward"), (-3, "back")])
def test_a_wall_clock_that_is_set_changes_no_cost_and_no_time_out(made: Any, hours: int, way: str):
    """Three hours forward or back in a step: the cost is that of the seconds that passed; it is noted, once."""
    made.phase.budget_usd = Decimal("1.30")
    made.clock.sleep(5)
    made.clock.ahead += hours * 3600
    assert made.limits.reason() is None
    assert made.limits.reason() is None
    assert accrued(made.ledger, made.run) == Decimal("0.05")
    notes = [event.text for event in made.ledger.events.all(run=made.run)]
    assert notes == [f"this computer's clock was set {way} by 10,800 s; time-outs and costs go on evenly"]
    made.clock.sleep(6)
    found = made.limits.reason()
    assert found
    assert found.kind == "over_budget"


@pytest.mark.parametrize(
    ("spent", "rate", "more", "lasts_s"),
    [
        ("0", "36", "0", 1000), ("9", "36", "0", 100), ("9", "0", "36", 100), ("11", "36", "0", -100),
        ("9.5", "0", "0", math.inf), ("10", "0", "0", math.inf), ("10.01", "0", "0", 0),
    ],
)  # fmt: skip
def test_a_cap_lasts_for_what_is_left_of_it(spent: str, rate: str, more: str, lasts_s: float):
    """At what lives and what comes beside it; where nothing lives for ever, or not at all once it is passed."""
    cap = Cap("the run", Decimal(10), Decimal(spent), Decimal(rate))
    assert cap.seconds(Decimal(more)) == lasts_s
    if more == "0":
        assert cap.seconds() == lasts_s
