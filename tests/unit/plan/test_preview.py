"""What is shown before a run is confirmed."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from orchestrator.cost import gb_hour
from orchestrator.plan import Market, Preview, preview, resolve, with_disk
from orchestrator.words.model import Plan
from tests.unit.plan.plan_samples import offer

A100 = "A100-80GB"
MARKET = Market(
    offers={
        "day1": offer("RTX-4090", "0.74", memory=24),
        "day2-3": offer(A100, "1.79", memory=80),
        "day4-5": offer(A100, "3.58", gpus=2, memory=80),
        "day6-7": offer(A100, "3.58", gpus=2, memory=80),
    },
    cpu=offer("", "0.16", gpus=0),
    volume_price_hour=Decimal("0.0959"),
    stores=1,
)
STAGED = replace(MARKET, cpu=offer("", "0.24", gpus=0), staged=frozenset({"day1", "day2-3", "day4-5", "day6-7"}))
DAY1 = frozenset({"day1/clone", "day1/overlay", "day1/download-glm", "day1/download-intellect3"})


def test_the_whole_plan_fits_the_aim(shipped: Plan):
    """At catalogue prices the shipped plan is estimated within 2.5 hours and 5 dollars, beside 66 and 155.

    The own disk of 50 GB of each machine is in it.
    """
    offers = {
        name: with_disk(replace(o, disk_gb_hour=gb_hour(Decimal("0.10"))), 50) for name, o in STAGED.offers.items()
    }
    market = replace(STAGED, offers=offers, cpu=offer("", "0.2469445", gpus=0))
    found = preview(shipped, resolve(shipped, ["all"]), market)
    without = preview(shipped, resolve(shipped, ["all"]), STAGED).estimated_usd
    assert Decimal("0.015") < (found.estimated_usd or 0) - (without or 0) < Decimal("0.035")  # some hours of machines
    assert found.planned == (66, 155)
    assert found.estimated_hours <= Decimal("2.5")
    assert found.estimated_usd is not None
    assert found.estimated_usd <= 5
    assert found.over_budget == ()


def test_the_estimate_is_near_what_no_schedule_goes_below(shipped: Plan):
    """The hours are at most 1.15 times those of the bytes that must cross; each resource's are said."""
    total = preview(shipped, resolve(shipped, ["all"]), STAGED).document()["total"]
    bound = {name: Decimal(hours) for name, hours in total["bound_hours"].items()}
    assert bound["along_needs"] >= max(bound["hub"], bound["volume"], bound["upload"])
    assert bound["hub"] == pytest.approx(Decimal("434.6") / Decimal("0.3") / 3600, abs=Decimal("0.001"))
    assert bound["upload"] == pytest.approx(Decimal("124.6") / Decimal("0.2") / 3600, abs=Decimal("0.001"))
    assert bound["along_needs"] <= Decimal(total["estimated_hours"]) <= Decimal("1.15") * bound["along_needs"]
    assert Decimal(total["pull_hours"]) == pytest.approx(
        Decimal("124.6") / Decimal("0.125") / 3600, abs=Decimal("0.001")
    )


def test_without_a_store_there_is_no_way_home():
    """What is not saved takes no hours to fetch."""
    assert Decimal(Preview((), Decimal(0), None).document()["total"]["pull_hours"]) == 0


def test_each_crew_is_paid_for_while_its_steps_need_it(shipped: Plan):
    """Days 6-7 have a CPU machine throughout, GPUs from the first answer to the last, a second node for two steps."""
    last = preview(shipped, resolve(shipped, ["all"]), STAGED).phases[-1]
    paid = {crew.crew: crew for crew in last.crews}
    assert paid["staging"].hours == last.estimated_hours
    assert paid["workers"].hours < Decimal("0.15") < paid["main"].hours < last.estimated_hours - Decimal("0.2")
    assert [crew.offer and crew.offer.gpus for crew in last.crews] == [0, 2, 2]
    assert last.estimated_usd == sum(crew.usd or 0 for crew in last.crews)


def test_the_staging_machine_boots_once(shipped: Plan):
    """Each phase goes on with the CPU machine of the one before; alone it has a boot of its own."""
    phases = preview(shipped, resolve(shipped, ["all"]), STAGED).phases
    assert [phase.takes_over for phase in phases] == [None, "day1", "day2-3", "day4-5"]
    (alone,) = preview(shipped, resolve(shipped, ["day2-3"]), replace(STAGED, done=DAY1)).phases
    boot = Decimal(180) / 3600
    assert alone.estimated_hours - phases[1].estimated_hours == pytest.approx(boot, abs=Decimal("0.001"))


def test_two_nodes_cost_twice(shipped: Plan):
    """A phase's price an hour is that of all its nodes."""
    (last,) = preview(shipped, resolve(shipped, ["day6-7"]), MARKET).phases
    assert last.price_hour == Decimal("7.16")
    assert last.needs == "2x A100-80GB or H100-80GB, 2 nodes"


def test_pulled_in_steps_are_shown_with_their_cost(shipped: Plan):
    """A phase alone shows what it does for others, what that costs here, and what the cheaper machine would save."""
    (alone,) = preview(shipped, resolve(shipped, ["day4-5"]), MARKET).phases
    pulled = [step.id for step in alone.steps if step.pulled_in]
    assert pulled == ["day1/clone", "day1/download-intellect3", "day1/overlay"]
    assert alone.pulled_in_usd == pytest.approx(alone.pulled_in_hours * Decimal("3.58"), abs=Decimal("0.001"))
    assert alone.earlier_first_saves_usd is not None
    assert Decimal(0) < alone.earlier_first_saves_usd < alone.pulled_in_usd


def test_what_is_done_is_not_counted(shipped: Plan):
    """Steps whose records held cost nothing; with all done there is a boot to look at them; an idle phase is free."""
    runs = resolve(shipped, ["day4-5"])
    pulled = frozenset(step.id for step in runs[0].pulled_in)
    (rest,) = preview(shipped, runs, replace(MARKET, done=pulled)).phases
    assert rest.pulled_in_hours == 0
    assert rest.earlier_first_saves_usd is None
    done = replace(MARKET, done=frozenset(s.id for s in runs[0].steps))
    (looked,) = preview(shipped, runs, replace(done, looked_at=frozenset({"day4-5"}))).phases
    assert (looked.up_to_date, looked.needs) == (False, "a machine without GPU")
    assert looked.estimated_hours * 3600 > shipped.settings.boot_seconds
    (nothing,) = preview(shipped, runs, replace(done, idle=frozenset({"day4-5"}))).phases
    assert nothing.up_to_date
    assert (nothing.estimated_hours, nothing.estimated_usd, nothing.offer) == (0, 0, None)


def test_a_machine_is_taken_over_when_it_fits(shipped: Plan):
    """With an 80 GB card on day 1, days 2-3 go on with it at its price and without another boot."""
    market = replace(MARKET, offers={**MARKET.offers, "day1": offer(A100, "1.50", memory=80)})
    day1, day2 = preview(shipped, resolve(shipped, ["day1", "day2-3"]), market).phases
    assert (day2.takes_over, day2.price_hour, day1.takes_over) == ("day1", Decimal("1.50"), None)
    (alone,) = preview(shipped, resolve(shipped, ["day2-3"]), market).phases
    assert alone.takes_over is None
    other = preview(shipped, resolve(shipped, ["day1", "day2-3"]), MARKET).phases[1]
    assert other.takes_over is None, "24 GB do not fit"
    boot = Decimal(180) / 3600
    assert other.estimated_hours - day2.estimated_hours == pytest.approx(boot, abs=Decimal("0.001"))


def test_the_ways_stand_beside_each_other(shipped: Plan):
    """The plan's own way costs more than the cheapest, which is the staged one; low rates make both dearer."""
    found = preview(shipped, resolve(shipped, ["all"]), STAGED)
    assert found.ways is not None
    assert found.ways.cheapest == (found.estimated_hours, found.estimated_usd)
    own, cheapest, far = found.ways.own[1], found.ways.cheapest[1], found.ways.far_end[1]
    assert own and cheapest and far  # noqa: PT018  each has a price
    assert cheapest < own / 2
    assert cheapest < far < (found.ways.own_far_end[1] or 0)
    alone = preview(shipped, resolve(shipped, ["all"]), replace(MARKET, cpu=None))
    assert alone.ways is not None
    assert alone.ways.cheapest[1] == alone.estimated_usd, "no CPU machine is sold"


def test_no_way_is_dearer_than_it_is_for_a_boot_that_nobody_waits_for(shipped: Plan):
    """A phase that goes on with an earlier one's machine does so on each way."""
    market = replace(MARKET, cpu=None, offers={**MARKET.offers, "day1": offer(A100, "1.50", memory=80)})
    found = preview(shipped, resolve(shipped, ["day1", "day2-3"]), market)
    assert found.phases[1].takes_over == "day1"
    assert found.ways is not None
    assert found.ways.cheapest == (found.estimated_hours, found.estimated_usd)


def test_a_phase_that_rents_no_gpu_has_the_cpu_machines_price(shipped: Plan):
    """Day 2-3 without what needs a GPU costs what its CPU machine does."""
    light = frozenset({"day2-3/verify-glm", "day2-3/infer-glm-france"})
    (phase,) = preview(shipped, resolve(shipped, ["day2-3"]), replace(STAGED, done=light)).phases
    assert STAGED.cpu is not None
    assert phase.price_hour == STAGED.cpu.price_hour


def test_measured_rates_have_no_far_end(shipped: Plan):
    """A rate that a run has measured is not guessed at."""
    rates = {name: float(getattr(shipped.settings.rates, name)) for name in type(shipped.settings.rates).model_fields}
    ways = preview(shipped, resolve(shipped, ["all"]), replace(STAGED, rates=rates)).ways
    assert ways is not None
    assert ways.far_end == ways.cheapest


def test_without_prices_hours_are_still_told(shipped: Plan):
    """No offer, no dollars; the hours and the plan's own figures stay."""
    found = preview(shipped, resolve(shipped, ["all"]), Market())
    assert found.estimated_usd is None
    assert found.estimated_hours > 1
    assert not [note for note in found.notes if note.about == "Hours and dollars"]


def test_measured_figures_stand_beside(shipped: Plan):
    """Earlier runs are shown for each phase, and in total once every phase has run."""
    day1 = (Decimal("0.5"), Decimal("0.4"))
    some = preview(shipped, resolve(shipped, ["day1", "day2-3"]), replace(MARKET, earlier={"day1": day1}))
    assert [phase.measured for phase in some.phases] == [day1, None]
    assert some.measured is None
    both = preview(shipped, resolve(shipped, ["day1"]), replace(MARKET, earlier={"day1": day1}))
    assert both.measured == day1


def test_too_small_budgets_are_told(shipped: Plan):
    """An estimate above a phase's cap or the plan's is a sentence each."""
    dear = replace(MARKET, offers={name: replace(o, price_hour=Decimal(99)) for name, o in MARKET.offers.items()})
    over = preview(shipped, resolve(shipped, ["all"]), dear).over_budget
    assert [text.split(":")[0] for text in over] == ["day1", "day2-3", "day6-7", "the run"]


def test_what_earlier_runs_spent_counts_against_the_budget(shipped: Plan):
    """A run that goes on with others has what they left of the cap; all of it said in one sentence."""
    first = preview(shipped, resolve(shipped, ["day1"]), MARKET)
    assert first.over_budget == ()
    (said,) = preview(shipped, resolve(shipped, ["day1"]), replace(MARKET, spent_usd=Decimal(150))).over_budget
    assert said == f"the run: estimated ${first.estimated_usd:.2f}, spent by the runs before it $150.00, budget $150.00"


def test_the_document_is_json(shipped: Plan):
    """`gpuplan plan --json` can print it."""
    document = json.loads(json.dumps(preview(shipped, resolve(shipped, ["all"]), MARKET).document()))
    assert document["total"]["planned"] == ["66", "155"]
    assert document["phases"][0]["offer"]["gpu"] == "RTX-4090"
    assert document["notes"][0]["about"] == "Size of GLM-4.5-Air-Base"


def test_expected_figures_stand_beside_what_was_measured(shipped: Plan):
    """The plan's tables are shown with what is so; a measured value comes with its machine, in the table's unit."""
    metrics = {("day2-3/convert-glm", "bytes_written"): (62_300_000_000.0, "1x A100-80GB")}
    found = preview(shipped, resolve(shipped, ["all"]), replace(MARKET, metrics=metrics)).expected
    rows = {item.what: (item.plan, item.fact, item.measured) for item in found}
    assert rows["GLM-4.5-Air-Base, q40"] == ("15 GB", "62.3 GB", "62.3 GB on 1x A100-80GB")
    assert rows["GLM-4.5-Air-Base, original"][2] is None
