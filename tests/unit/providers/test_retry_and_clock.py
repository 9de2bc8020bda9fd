"""The one retry policy, and time that a rehearsal shortens."""

from __future__ import annotations

import time
from datetime import UTC

import pytest

from orchestrator.words.errors import AccountRefused, ConnectionLost, ProviderUnavailable
from orchestrator.words.retry import LEAST_REAL_S, retrying
from orchestrator.world.clock import SystemClock

FAST = 0.001


class Flaky:
    """Raises its errors one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_what_may_pass_is_tried_again():
    """Two passing faults are two more calls."""
    call = Flaky(ProviderUnavailable("a"), ProviderUnavailable("b"))
    assert retrying(call, time_scale=FAST) == "done"
    assert call.calls == 3


@pytest.mark.parametrize("error", [AccountRefused("no"), ConnectionLost("gone"), ValueError("bug")])
def test_other_errors_pass_at_once(error: Exception):
    """Only named errors are tried again."""
    call = Flaky(error)
    with pytest.raises(type(error)):
        retrying(call, time_scale=FAST)
    assert call.calls == 1


def test_the_errors_to_retry_can_be_named():
    """A transfer may name its own passing error."""
    assert retrying(Flaky(ConnectionLost("cut")), on=(ConnectionLost,), time_scale=FAST) == "done"


def test_retry_after_is_kept_in_the_clouds_time():
    """A wait of 100 cloud seconds is a tenth of a second at a thousandth of the speed."""
    began = time.monotonic()
    retrying(Flaky(ProviderUnavailable("429", retry_after=100.0)), time_scale=FAST)
    assert 0.1 <= time.monotonic() - began < LEAST_REAL_S


def test_a_wait_beyond_the_budget_is_raised_at_once():
    """Nobody waits for an hour when there are two minutes."""
    call = Flaky(ProviderUnavailable("429", retry_after=3600.0))
    with pytest.raises(ProviderUnavailable):
        retrying(call, within_s=120, time_scale=FAST)
    assert call.calls == 1


def test_the_total_time_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """A fault without end is raised when the time is used up."""
    monkeypatch.setattr("orchestrator.words.retry.LEAST_REAL_S", 0.05)
    call = Flaky(*[ProviderUnavailable("for ever")] * 10_000)
    began = time.monotonic()
    with pytest.raises(ProviderUnavailable):
        retrying(call, within_s=10, time_scale=FAST)
    assert time.monotonic() - began < 5
    assert call.calls > 1


def test_the_clock_scales_waits_and_nothing_else():
    """Sleeping is in the cloud's time, now() is the real one and aware."""
    clock = SystemClock(FAST)
    began = time.monotonic()
    clock.sleep(50)
    clock.sleep(-1)
    assert 0.05 <= time.monotonic() - began < 1
    assert UTC is clock.now().tzinfo
    with pytest.raises(ValueError, match="time_scale"):
        SystemClock(0)
