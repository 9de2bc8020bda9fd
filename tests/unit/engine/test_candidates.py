"""Which offer a node tries next: all at one place, each once, until none is left."""

from __future__ import annotations

from decimal import Decimal

import pytest

from orchestrator.engine.effects import NotReached
from orchestrator.engine.provisioning import Candidates
from orchestrator.words.errors import NoMachine
from orchestrator.words.provider import Offer


def offer(name: str, place: str) -> Offer:
    return Offer("p", name, "A100-80GB", 1, 80, Decimal(1), place)


A1, A2, B1 = offer("a1", "A"), offer("a2", "A"), offer("b1", "B")


def test_nodes_are_taken_where_the_first_one_is():
    """Once a node has a machine, the others try what is sold at its place."""
    found = Candidates("only", [A1, B1, A2], [0, 1])
    assert found.next(0) == (0, A1)
    found.failed(0, "sold out")
    assert found.next(0) == (1, B1)
    found.hold(0, B1)
    assert found.next(1) == (1, B1)
    found.failed(1, "sold out")
    with pytest.raises(NoMachine, match="sold out"):
        found.next(1)


def test_another_place_is_tried_when_nothing_is_left_at_the_first():
    """A machine that never came up holds nobody at its place, and what was passed over is tried then."""
    found = Candidates("only", [A1, B1], [0, 1])
    found.next(0)
    found.hold(0, A1)
    found.next(1)
    found.hold(1, A1)
    assert found.open == []
    found.failed(0, "never booted")
    found.failed(1, "never booted")
    assert found.open == [0, 1]
    assert found.next(0) == (1, B1)


def test_a_machine_that_came_up_nowhere_counts_for_the_runs_that_follow():
    """The first one was another run's: the second one ends the search."""
    found, nowhere = Candidates("only", [A1, A2], [0], before=1), NotReached("no address", nowhere=True)
    found.next(0)
    with pytest.raises(NoMachine, match="only: 2 machines came up nowhere: no address"):
        found.failed(0, nowhere)


def test_without_offers_nobody_sells_it():
    """The message says that nothing fits."""
    with pytest.raises(NoMachine, match=r"only: no machine \(0 candidates tried\); last answer: nobody sells"):
        Candidates("only", [], [0]).next(0)
