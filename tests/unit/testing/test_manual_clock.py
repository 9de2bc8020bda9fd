"""The manual clock: one thread at a time, in an order that the seed decides, and no real waiting."""

from __future__ import annotations

import time
from functools import partial

import pytest

from orchestrator.testing.clock import ManualClock, Stuck


def _played(seed: int) -> list[str]:
    clock, seen = ManualClock(seed), list[str]()

    def player(name: str) -> None:
        for turn in range(4):
            seen.append(f"{name}{turn} at {clock.monotonic():g}")
            clock.pause(1)

    clock.gather([partial(player, name) for name in "abc"])
    return seen


def test_the_same_seed_gives_the_same_order():
    """Two plays with one seed are equal; some other seed gives another order."""
    assert _played(3) == _played(3)
    assert any(_played(seed) != _played(3) for seed in range(4, 10))


def test_days_pass_at_once():
    """A thread that sleeps for a week wakes a week later by the clock, and at once for the test."""
    clock, began = ManualClock(), time.monotonic()
    clock.sleep(7 * 86400)
    assert clock.monotonic() == 7 * 86400
    assert time.monotonic() - began < 60


def test_a_wall_clock_that_jumps_leaves_the_others_alone():
    """`jump` moves `wall` only."""
    clock = ManualClock()
    before = clock.now()
    clock.jump(-3 * 3600)
    assert (clock.wall() - before).total_seconds() == -3 * 3600
    assert (clock.now(), clock.monotonic()) == (before, 0)


def test_a_signal_is_seen_when_another_thread_has_run():
    """A wait ends with True as soon as its condition holds, with False when its time is over first."""
    clock, done = ManualClock(), list[int]()
    signal = clock.signal()

    def later() -> None:
        clock.pause(10)
        done.append(1)

    clock.spawn("later", later)
    assert not signal.wait(lambda: bool(done), 5)
    assert signal.wait(lambda: bool(done), 60)
    assert clock.monotonic() == 10


def test_gathering_raises_the_first_error_after_all_have_ended():
    """One call's error is raised once the others are done, and their work is not lost."""
    clock, done = ManualClock(), list[str]()

    def failing() -> None:
        raise ValueError("no")

    def working() -> None:
        clock.pause(5)
        done.append("worked")

    with pytest.raises(ValueError, match="no"):
        clock.gather([failing, working])
    assert done == ["worked"]


def test_threads_that_wait_for_each_other_are_named():
    """When nobody can go on, the test hears of it instead of hanging."""
    clock = ManualClock()
    with pytest.raises(Stuck, match="MainThread"):
        clock.signal().wait(lambda: False)


def test_a_life_that_ends_leaves_everything_as_it_is():
    """A killed process's threads never go on and clean nothing up; others do, and time goes on for them."""
    clock, life, said = ManualClock(), object(), list[str]()

    def child() -> None:
        clock.pause(20)
        said.append("child")

    def body() -> None:
        try:
            clock.spawn("child", child)
            clock.pause(10)
            said.append("parent")
        finally:
            said.append("cleaned up")

    clock.spawn("parent", body, life)
    clock.pause(5)
    clock.end_life(life)
    clock.pause(100)
    assert (said, clock.monotonic()) == ([], 105)


def test_a_thread_that_ends_its_own_life_never_comes_back():
    """Whoever waits for the clock goes on."""
    clock, life, said = ManualClock(), object(), list[str]()

    def body() -> None:
        assert clock.life is life
        clock.end_life(life)
        said.append("came back")

    clock.spawn("doomed", body, life)
    clock.pause(1)
    assert said == []
