"""Charges shared out over steps: exact sums, nothing lost, nothing counted twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cost import CostReport, MachineCharge, StepTime, VolumeCharge, accrued, gb_hour, report

START = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
PLANNED = {"one": (Decimal(10), Decimal(10)), "two": (Decimal(16), Decimal("30.24"))}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def machine(
    since: float, until: float | None, *, name: str = "m", phase: str = "one", price: str = "3.60"
) -> MachineCharge:
    return MachineCharge(name, phase, "p", Decimal(price), at(since), None if until is None else at(until))


def ran(
    name: str, since: float, until: float | None, *, machines: tuple[str, ...] = ("m",), phase: str = "one"
) -> StepTime:
    return StepTime(phase, name, machines, at(since), None if until is None else at(until))


def lines(found: CostReport, phase: str = "one") -> dict[str, tuple[Decimal, Decimal]]:
    (one,) = [p for p in found.phases if p.phase == phase]
    return {line.name: (line.seconds, line.usd) for line in one.steps}


def test_fifty_gigabytes_for_three_hours():
    """At ten cents a GB and month they cost $0.0208: 50 x 0.10 / 720 x 3, rounded up by less than a millionth."""
    usd = 50 * gb_hour(Decimal("0.10"))
    assert usd == Decimal("0.0069445")
    three_hours = accrued([machine(0, 3 * 3600, price=str(usd))], at(3 * 3600))
    assert Decimal(0) <= three_hours - Decimal(50) * Decimal("0.10") / 720 * 3 < Decimal("0.000001")


def test_time_without_a_step_is_named():
    """A machine's time before, between and after its steps is starting, idle and ending."""
    found = report("r", [machine(0, 100)], [], [ran("a", 10, 30), ran("b", 40, 90)], now=at(500), planned=PLANNED)
    assert lines(found) == {
        "a": (20, Decimal("0.02")),
        "b": (50, Decimal("0.05")),
        "(starting)": (10, Decimal("0.01")),
        "(idle)": (10, Decimal("0.01")),
        "(ending)": (10, Decimal("0.01")),
    }
    assert found.total_usd == Decimal("0.1")


def test_steps_at_the_same_time_share_evenly():
    """Where two steps run on one machine, each pays half of that time; seconds are their own."""
    found = report("r", [machine(0, 100)], [], [ran("a", 0, 100), ran("b", 50, 100)], now=at(100), planned=PLANNED)
    assert lines(found) == {"a": (100, Decimal("0.075")), "b": (50, Decimal("0.025"))}


def test_a_step_on_two_machines_pays_for_both():
    """Two nodes cost twice; a node that a step does not use is idle for it."""
    both = [machine(0, 100), machine(0, 100, name="n")]
    steps = [ran("a", 0, 60, machines=("m", "n")), ran("b", 60, 100)]
    found = report("r", both, [], steps, now=at(100), planned=PLANNED)
    assert lines(found) == {
        "a": (60, Decimal("0.12")),
        "b": (40, Decimal("0.04")),
        "(ending)": (40, Decimal("0.04")),
    }
    assert found.phases[0].hours == Decimal("0.027778"), "elapsed, not machine hours: comparable with the plan's"


def test_a_machine_without_any_step_was_starting():
    """A machine that never got to a step has cost all the same."""
    found = report("r", [machine(0, 50)], [], [], now=at(100), planned={})
    assert lines(found) == {"(starting)": (50, Decimal("0.05"))}


def test_attempts_on_two_machines_are_one_line():
    """A step that a lost machine interrupted and another one finished is one line with both times."""
    charges = [machine(0, 40), machine(60, 100, name="n")]
    steps = [ran("a", 10, 40), ran("a", 70, 100, machines=("n",))]
    found = report("r", charges, [], steps, now=at(100), planned={})
    assert lines(found)["a"] == (60, Decimal("0.06"))


def test_what_still_runs_costs_until_now():
    """An open charge and an open step count up to now, and no further."""
    found = report("r", [machine(0, None)], [], [ran("a", 0, None)], now=at(30), planned={})
    assert lines(found) == {"a": (30, Decimal("0.03"))}


def test_a_machine_taken_over_is_paid_by_each_phase_in_turn():
    """Two charges of one machine, one a phase; a step pays within its own phase only."""
    charges = [machine(0, 50), machine(50, 100, phase="two")]
    steps = [ran("a", 0, 50), ran("b", 50, 100, phase="two")]
    found = report("r", charges, [], steps, now=at(100), planned=PLANNED)
    assert (lines(found), lines(found, "two")) == ({"a": (50, Decimal("0.05"))}, {"b": (50, Decimal("0.05"))})


def test_the_document():
    """The JSON document has exactly the keys of the contract, money as text, and adds up."""
    volume = VolumeCharge("v", Decimal("0.1"), START, at(3600))
    found = report("r", [machine(0, 100)], [volume], [ran("a", 0, 100)], now=at(9999), planned=PLANNED, settled=True)
    document = json.loads(json.dumps(found.document()))
    assert document == {
        "run": "r",
        "currency": "USD",
        "phases": [
            {
                "phase": "one",
                "hours": 0.027778,
                "usd": "0.10",
                "planned_hours": 10.0,
                "planned_usd": "10.00",
                "steps": [{"name": "a", "seconds": 100.0, "usd": "0.10"}],
            },
            {
                "phase": "two",
                "hours": 0.0,
                "usd": "0.00",
                "planned_hours": 16.0,
                "planned_usd": "30.24",
                "steps": [],
            },
        ],
        "volumes_usd": "0.10",
        "total_usd": "0.20",
        "planned_usd": "40.24",
        "settled": True,
    }


def test_small_amounts_keep_their_digits():
    """A rehearsed step costs far less than a cent, and the document still says how much."""
    found = report("r", [machine(0, 0.5)], [], [], now=at(1), planned={})
    assert found.document()["total_usd"] == "0.0005"


def test_an_unplanned_phase_is_listed_too():
    """What cost something is in the report whether the plan knew of it or not."""
    found = report("r", [machine(0, 10, phase="extra")], [], [], now=at(10), planned=PLANNED)
    assert [phase.phase for phase in found.phases] == ["one", "two", "extra"]
    assert found.phases[2].planned_usd is None


def test_a_clock_that_went_back_costs_nothing():
    """A charge that ends before it began is worth 0, not less."""
    assert accrued([machine(10, 0), VolumeCharge("v", Decimal(1), at(10), START)], at(20)) == 0


def test_accrued_is_exact_to_the_microsecond():
    """The budget counts every part of a second, unrounded."""
    assert accrued([machine(0, 0.000001)], at(1)) == Decimal("0.000000001")


SECONDS = st.integers(0, 7200)
PRICES = st.decimals("0.01", "99.99", places=4)


@given(
    st.lists(st.tuples(SECONDS, SECONDS, st.sampled_from("mn"), PRICES), max_size=4),
    st.lists(st.tuples(st.sampled_from("abc"), SECONDS, SECONDS, st.sampled_from(["m", "n", "mn"])), max_size=6),
    PRICES,
)
def test_every_report_adds_up(
    charges: list[tuple[int, int, str, Decimal]], steps: list[tuple[str, int, int, str]], volume_price: Decimal
):
    """Lines add to their phase, phases and volumes to the total, and the total is what accrued, to the rounding."""
    machines = [machine(a, a + b, name=name, price=str(price)) for a, b, name, price in charges]
    times = [ran(name, a, a + b, machines=tuple(on)) for name, a, b, on in steps]
    volumes = [VolumeCharge("v", volume_price, START, at(1800))]
    found = report("r", machines, volumes, times, now=at(5000), planned=PLANNED)
    document = found.document()
    for phase in document["phases"]:
        assert sum(Decimal(line["usd"]) for line in phase["steps"]) == Decimal(phase["usd"])
        assert all(Decimal(line["usd"]) >= 0 for line in phase["steps"])
    parts = sum((Decimal(phase["usd"]) for phase in document["phases"]), Decimal(document["volumes_usd"]))
    assert parts == Decimal(document["total_usd"])
    exact = accrued([*machines, *volumes], at(5000))
    assert abs(exact - parts) <= Decimal("0.000001") * (len(document["phases"]) + 1)
