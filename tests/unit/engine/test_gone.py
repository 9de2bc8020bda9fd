"""The loop of proof: what counts as gone, and for how long it is asked."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.engine import gone
from orchestrator.engine.effects import NotGone
from orchestrator.words.errors import ProviderUnavailable
from tests.unit.engine.stepping import START, Cloud, SteppingClock


def test_what_was_seen_and_is_not_listed_any_more_is_gone_at_once():
    """One look is proof of a thing that was there."""
    clock = SteppingClock()
    assert gone.until(clock, lambda: False) == gone.Proven(START)
    assert clock.waits == []


def test_the_absence_of_a_fresh_thing_proves_nothing():
    """Until it is old enough to be listed, one that nobody has seen is looked for again and again."""
    clock = SteppingClock()
    proof = gone.until(clock, lambda: False, fresh_s=60, seen=False)
    assert isinstance(proof, gone.Proven)
    assert clock.passed >= 60


def test_a_fresh_thing_that_was_listed_once_is_believed_gone():
    """Seen by one look and absent in the next: that is proof, however fresh it is."""
    clock, looks = SteppingClock(), iter([False, True, False])
    assert isinstance(gone.until(clock, lambda: next(looks), fresh_s=1000, seen=False), gone.Proven)
    assert clock.passed < 10


def test_what_stays_listed_is_not_gone_when_the_time_is_over():
    """The deadline ends it, with what was said last."""
    clock = SteppingClock()
    assert gone.until(clock, lambda: True, within_s=100) == NotGone(gone.LISTED)
    assert 100 <= clock.passed <= 100 + gone.POLL_S


def test_an_error_of_the_provider_counts_as_not_yet():
    """503 is neither proof nor the end; the moment of the end is that of the request before the proof."""
    clock, cloud = SteppingClock(), Cloud({"m": "n"}, refusals=3)
    proof = gone.machine(cloud, clock, "m")  # type: ignore[arg-type]  # as much of a provider as it asks
    assert proof == gone.Proven(START + timedelta(seconds=1 + 2 + 4))
    assert cloud.asked == ["destroy"] * 4 + ["list", "get"]


def test_what_a_vendor_takes_for_the_delete_is_paid():
    """A delete that is answered after five seconds ends the machine no sooner: no bill is above what was counted."""
    clock = SteppingClock()
    proof = gone.until(clock, lambda: bool(clock.sleep(3)), lambda: clock.sleep(5))
    assert proof == gone.Proven(START + timedelta(seconds=5))


def test_a_provider_that_asks_for_an_hour_waits_a_minute():
    """The machine costs meanwhile, so no wish for a pause is honoured beyond LONGEST_PAUSE_S."""
    clock = SteppingClock()

    def refuse() -> bool:
        raise ProviderUnavailable("429", retry_after=3600)

    assert gone.until(clock, refuse, within_s=100) == NotGone("429")
    assert max(clock.waits) == gone.LONGEST_PAUSE_S
