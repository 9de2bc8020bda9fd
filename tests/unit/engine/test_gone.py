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


def test_nothing_is_billed_after_the_moment_of_the_end():
    """A delete that takes a while on its way ends the bill when it is answered, not when it was sent."""
    clock = SteppingClock()
    assert gone.until(clock, lambda: False, end=lambda: clock.sleep(15)) == gone.Proven(START + timedelta(seconds=15))


def test_what_stays_listed_for_a_while_is_billed_until_the_proof():
    """Accepted, still listed, ended between the next answer and the list: only the proof's own moment is after it."""
    clock, looks = SteppingClock(), iter([True, False])

    def present() -> bool:
        clock.sleep(3)
        return next(looks)

    assert gone.until(clock, present) == gone.Proven(START + timedelta(seconds=3 + 1 + 3))


def test_an_error_of_the_provider_counts_as_not_yet():
    """503 is neither proof nor the end; the moment of the end is that of the request before the proof."""
    clock, cloud = SteppingClock(), Cloud({"m": "n"}, refusals=3)
    proof = gone.machine(cloud, clock, "m")  # type: ignore[arg-type]  # as much of a provider as it asks
    assert proof == gone.Proven(START + timedelta(seconds=1 + 2 + 4))
    assert cloud.asked == ["destroy"] * 4 + ["list", "get"]


def test_a_provider_that_asks_for_an_hour_waits_a_minute():
    """The machine costs meanwhile, so no wish for a pause is honoured beyond LONGEST_PAUSE_S."""
    clock = SteppingClock()

    def refuse() -> bool:
        raise ProviderUnavailable("429", retry_after=3600)

    assert gone.until(clock, refuse, within_s=100) == NotGone("429")
    assert max(clock.waits) == gone.LONGEST_PAUSE_S


def test_a_deadline_that_has_come_is_not_waited_beyond():
    """It is asked once, and the answer is not awaited any longer."""
    clock = SteppingClock()
    assert gone.until(clock, lambda: True, within_s=0) == NotGone(gone.LISTED)
    assert clock.waits == []
