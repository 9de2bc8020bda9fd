"""The loop through cuts and the loop through refusals: what ends them, and how long they pause."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.engine.control import Control
from orchestrator.engine.reach import LONGEST_PAUSE_S, patiently, through_cuts
from orchestrator.words.errors import ConnectionLost, HostKeyChanged, Interrupted, MachineLost, ProviderUnavailable
from orchestrator.words.waiting import Clock
from tests.unit.engine.stepping import SteppingClock


class Known:
    """What is known of one machine."""

    def __init__(self, why: str = "") -> None:
        self.stepping = SteppingClock()
        self.clock: Clock = self.stepping
        self.control = Control(self.clock)
        self.why, self.distrusted = why, ""
        self.restarts: list[bool | None] = [False]
        self.cuts: list[str] = []

    def lost(self, _name: str) -> str:
        return self.why

    def was_cut(self, _name: str, why: str) -> None:
        self.cuts.append(why)

    silence_s = 900.0
    vouched = False

    def is_vouched_for(self, _name: str) -> bool:
        return self.vouched

    def restarted(self, _name: str) -> bool | None:
        return self.restarts.pop(0)

    def distrust(self, _name: str, reason: str) -> None:
        self.distrusted = reason

    fell_silent = distrust


def cut(times: int) -> Callable[[], str]:
    """A body that is cut so often, and then done."""
    left = [times]

    def body() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionLost("cut")
        return "done"

    return body


def test_cuts_are_invisible_and_the_pauses_double():
    """What needs the machine is done again until it is done, with longer and longer pauses up to a bound."""
    machines = Known()
    assert through_cuts(machines, "m", cut(9)) == "done"
    assert machines.stepping.waits == [0.5, 1, 2, 4, 8, 16, 30, 30, LONGEST_PAUSE_S]
    assert machines.cuts == ["cut"] * 9


def test_the_pauses_begin_anew_where_the_connection_had_served():
    """A connection that worked for hours is reached again as soon as one that was never cut."""
    machines, read = Known(), iter([0, 0, 0, 0, 7, 7])
    assert through_cuts(machines, "m", cut(5), progress=lambda: next(read)) == "done"
    assert machines.stepping.waits == [0.5, 1, 2, 0.5, 1]


def test_a_machine_that_the_provider_knows_no_more_is_lost():
    """The provider's word ends the loop."""
    with pytest.raises(MachineLost, match="m: it was ended"):
        through_cuts(Known("it was ended"), "m", cut(1))


def test_a_machine_that_stays_silent_is_lost_though_its_provider_says_it_runs():
    """After a quarter of an hour, from the first cut on; while the provider is silent too it is waited for."""
    machines = Known()
    assert through_cuts(machines, "m", cut(100)) == "done"
    assert machines.stepping.passed > 2 * machines.silence_s
    machines = Known()
    machines.vouched = True
    with pytest.raises(MachineLost, match="m: it has not answered for 15 min, though its provider says that it runs"):
        through_cuts(machines, "m", cut(100))
    assert machines.silence_s < machines.stepping.passed < machines.silence_s + 60
    assert machines.distrusted.startswith("it has not answered")


def test_each_answer_begins_the_silence_anew():
    """Where something came of the connection, the machine is alive."""
    machines, read = Known(), iter(range(200))
    machines.vouched = True
    assert through_cuts(machines, "m", cut(100), progress=lambda: next(read)) == "done"


def test_another_machine_at_the_address_is_distrusted():
    """Where another host key answers, ours counts as lost from then on."""
    machines = Known()

    def body() -> None:
        raise HostKeyChanged("another key")

    with pytest.raises(MachineLost, match="another key"):
        through_cuts(machines, "m", body)
    assert machines.distrusted == "another key"


def test_a_machine_that_its_provider_restarted_is_trusted_again():
    """Its own word makes another host key the same machine's; while it is silent, nothing is decided."""
    machines = Known()
    machines.restarts = [None, None, True]

    def body() -> None:
        raise HostKeyChanged("another key")

    with pytest.raises(MachineLost, match="m: its provider has restarted it"):
        through_cuts(machines, "m", body)
    assert machines.distrusted == ""
    assert machines.stepping.waits == [0.5, 1]


def test_a_run_that_is_to_stop_waits_for_no_machine():
    """Asked to stop, the loop ends with the reason."""
    machines = Known()
    machines.control.stop("interrupted", "Ctrl-C")
    with pytest.raises(Interrupted):
        through_cuts(machines, "m", cut(1))


def test_patience_ends_with_the_last_refusal():
    """A call that never answers is made until the time is over, and its last error raised."""
    clock, calls = SteppingClock(), []

    def refuse() -> None:
        calls.append(clock.passed)
        raise ProviderUnavailable(f"503, the {len(calls)}th")

    with pytest.raises(ProviderUnavailable, match="503"):
        patiently(clock, refuse, within_s=60)
    assert len(calls) > 4
    assert 30 < clock.passed <= 60


def test_a_wait_that_does_not_fit_in_is_not_begun():
    """A provider that asks for more than is left is not waited for at all."""
    clock = SteppingClock()

    def refuse() -> None:
        raise ProviderUnavailable("429", retry_after=61)

    with pytest.raises(ProviderUnavailable):
        patiently(clock, refuse, within_s=60)
    assert clock.waits == []
