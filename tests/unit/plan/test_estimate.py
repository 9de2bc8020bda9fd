"""How long steps and phases are expected to take."""

from __future__ import annotations

from decimal import Decimal

import pytest

from orchestrator.plan import estimate, makespan, measured_rates, resolve
from orchestrator.plan.estimate import makes_artifacts
from orchestrator.words.model import Plan, Rates, Settings, Step
from tests.unit.plan.plan_samples import phase, step

RATES = Rates(hub=Decimal(100), volume=Decimal(200), converter=Decimal(400), upload=Decimal(50))
SETTINGS = Settings(step_seconds=10, rates=RATES)


def span(*steps: Step, measured: dict[str, float] | None = None) -> float:
    plan = Plan(name="p", phases=(phase("one", *steps),), settings=SETTINGS)
    return makespan(resolve(plan, ["one"])[0].steps, SETTINGS, measured or {})


def test_a_step_says_how_long_it_takes():
    """What a step expects is believed; a step that says nothing takes step_seconds."""
    assert estimate(step("a", expect=7, reads_gb=100), SETTINGS, {}) == 7
    assert estimate(step("a"), SETTINGS, {}) == 10


def test_bytes_over_rate():
    """The larger of reading and writing counts, at the step's rate, after the fixed part."""
    assert estimate(step("a", reads_gb=20, writes_gb=5), SETTINGS, {}) == pytest.approx(10 + 100)
    assert estimate(step("a", writes_gb=20, rate="hub"), SETTINGS, {}) == pytest.approx(10 + 200)


def test_nothing_is_faster_than_the_volume():
    """A converter that could do 400 MB/s does 200 on a volume of 200."""
    assert estimate(step("a", reads_gb=20, rate="converter"), SETTINGS, {}) == pytest.approx(10 + 100)


def test_a_hub_checkout_is_hashed_as_it_arrives():
    """The checksums of what was downloaded cost no reading of their own: each file is read while others arrive."""
    got = estimate(step("a", writes_gb=20, rate="hub", hub={"repo": "o/m", "dir": "m"}), SETTINGS, {})
    assert got == pytest.approx(10 + 200)


def test_measured_rates_replace_the_settings():
    """What an earlier run measured is used; nonsense is not."""
    assert estimate(step("a", writes_gb=20, rate="hub"), SETTINGS, {"hub": 20}) == pytest.approx(10 + 1000)
    assert estimate(step("a", writes_gb=20, rate="hub"), SETTINGS, {"hub": 0, "moon": 3}) == pytest.approx(10 + 200)


def test_independent_steps_run_together_and_needs_wait():
    """Without bytes the longest chain decides."""
    assert span(step("a", expect=5), step("b", expect=9)) == pytest.approx(9)
    assert span(step("a", expect=5), step("b", "a", expect=9), step("c", expect=3)) == pytest.approx(14)


def test_two_downloads_share_the_line():
    """Two downloads at once take as long as one after the other; a third step beside them costs nothing."""
    both = span(step("a", writes_gb=10, rate="hub"), step("b", writes_gb=10, rate="hub"), step("c", expect=50))
    assert both == pytest.approx(10 + 200)


def test_a_short_user_leaves_the_rest_to_the_long_one():
    """When one of two steps on a resource ends, the other has it alone."""
    assert span(step("a", writes_gb=10, rate="hub"), step("b", writes_gb=2, rate="hub")) == pytest.approx(10 + 120)


def test_download_and_conversion_do_not_hinder_each_other():
    """Different resources overlap."""
    assert span(step("a", writes_gb=10, rate="hub"), step("b", reads_gb=10)) == pytest.approx(10 + 100)


def test_needs_outside_count_as_done():
    """A phase's span does not wait for what other phases did."""
    plan = Plan(name="p", phases=(phase("one", step("a", expect=5)), phase("two", step("b", "one/a", expect=3))))
    both = resolve(plan, ["all"])
    assert makespan(both[1].steps, plan.settings, {}) == pytest.approx(3)


def test_downloads_of_the_shipped_plan_take_24_minutes_together(shipped: Plan):
    """At 300 MB/s both checkpoints need 24 minutes on the line."""
    steps = [s for s in resolve(shipped, ["day1"])[0].steps if s.step.hub]
    bytes_only = sum(float(s.step.writes_gb) for s in steps) * 1000 / 300
    assert bytes_only / 60 == pytest.approx(24.1, abs=0.1)
    assert makespan(steps, shipped.settings, {}) > bytes_only


def test_rates_are_measured_over_the_time_that_was_used(shipped: Plan):
    """Two downloads at once make one line's speed; steps that did not run, or in no time, measure nothing."""
    spans = {
        "day1/download-glm": (0.0, 800.0),
        "day1/download-intellect3": (100.0, 900.0),
        "day2-3/convert-glm": (5.0, 5.0),
    }
    assert measured_rates(shipped, spans) == {"hub": pytest.approx((220.9 + 213.7) * 1000 / 900)}
    assert measured_rates(shipped, {}) == {}


def test_a_rate_is_measured_over_half_a_second_too(shipped: Plan):
    """Any time at all is one; bytes over none are no rate."""
    (rate,) = measured_rates(shipped, {"day1/download-glm": (0.0, 0.5)}).values()
    alone = measured_rates(shipped, {"day1/download-glm": (0.0, 1.0)})
    assert rate == pytest.approx(2 * alone["hub"])


def test_the_artifacts_are_shared_by_those_that_make_them():
    """As each says that it writes, and no more than the phase says of all; without a word all are the first one's."""
    steps = (step("a", writes_gb=30, creates=("a",)), step("b", writes_gb=10, creates=("b",)), step("c", writes_gb=5))

    def shares(artifacts_gb: int, *made: Step) -> dict[str, Decimal]:
        wanted = {"artifacts": ("a", "b"), "artifacts_gb": Decimal(artifacts_gb)}
        sized = phase("p", *made).model_copy(update=wanted)
        return makes_artifacts(sized, resolve(Plan(name="x", phases=(sized,)), ["p"])[0].steps)

    assert shares(20, *steps) == {"p/a": Decimal(15), "p/b": Decimal(5)}
    assert shares(400, *steps) == {"p/a": Decimal(30), "p/b": Decimal(10)}
    assert shares(20, step("a", creates=("a",)), step("b", creates=("b",))) == {"p/a": Decimal(20)}


def test_nothing_takes_no_time():
    """A phase of no steps."""
    assert span() == 0
