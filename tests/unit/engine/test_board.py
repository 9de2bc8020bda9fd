"""Steps that wait for each other, and what wakes them."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engine.board import UP, Board
from orchestrator.words.errors import Interrupted
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Step
from tests.unit.engine.stepbench import PHASE, Bench

FIRST, SECOND = Step(name="first", run="true"), Step(name="second", run="true", needs=("first",))


def test_a_step_that_waits_is_woken_by_the_move_and_reads_no_table(tmp_path: Path, monkeypatch: Any):
    """Whoever waits learns from the board alone that a step has ended."""
    bench = Bench(tmp_path, FIRST, SECOND)
    board = Board(bench.context, PHASE)
    monkeypatch.setattr(bench.ledger.steps, "all", lambda **_: pytest.fail("a waiting step reads the ledger"))
    found: list[StepState] = []

    def wait() -> None:
        found.append(board.wait_for(lambda states: s if (s := states["only/first"]).has_ended else None))

    waiting = bench.context.clock.spawn("waits", wait)
    board.tell("only/first", StepState.RUNNING)
    assert not waiting.join(0)
    board.tell("only/first", StepState.DONE)
    assert waiting.join(60)
    assert found == [StepState.DONE]


def test_a_stop_wakes_a_step_that_waits(tmp_path: Path):
    """A step that waits for another one ends at once, as interrupted, when the run is asked to stop."""
    bench = Bench(tmp_path, FIRST, SECOND)
    ends: list[Any] = []
    waiting = bench.context.clock.spawn("waits", lambda: ends.append(bench.run("second")))
    bench.context.control.stop("interrupted", "stopped by Ctrl-C")
    assert waiting.join(60)
    assert (ends[0].state, ends[0].detail) == (StepState.INTERRUPTED, "stopped by Ctrl-C")
    with pytest.raises(Interrupted):
        Board(bench.context, PHASE).wait_for(lambda _: None)


def test_after_a_stop_nobody_is_waited_for_without_end(tmp_path: Path):
    """What a service waits for is waited for a bounded time once the run stops."""
    bench = Bench(tmp_path, FIRST)
    bench.context.control.stop("interrupted", "enough")
    Board(bench.context, PHASE).settle(lambda _: False, 0.0)


def test_what_follows_a_failure_is_skipped(tmp_path: Path):
    """A step whose need failed does not begin, and neither does one that is still waiting for another."""
    bench = Bench(tmp_path, Step(name="first", run="echo no; exit 3"), SECOND, Step(name="third", run="true"))
    assert bench.run("first").state == StepState.FAILED
    for step in ("second", "third"):
        end = bench.run(step)
        assert (end.state, end.detail) == (StepState.SKIPPED, "only/first failed")
    assert "exit code 3" in bench.row("first").detail


def test_of_two_machines_one_begins_to_create_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Between the look at who creates files and the beginning nobody else begins, however two threads meet."""
    bench = Bench(tmp_path, FIRST, SECOND)
    board, crews = Board(bench.context, PHASE), {"only/first": "staging", "only/second": "main"}
    monkeypatch.setattr(
        "orchestrator.engine.board.crews_for", lambda _crews, step: (SimpleNamespace(name=crews[step]),)
    )
    looked, go_on, look = threading.Event(), threading.Event(), board.wait_for

    def slowly(ask: Any) -> Any:
        found = look(ask)
        looked.set()
        go_on.wait(60)
        return found

    monkeypatch.setattr(board, "wait_for", slowly)
    order: list[str] = []

    def create(step: str) -> None:
        with board.writing(step):
            order.append(f"{step} begins")
            order.append(f"{step} ends")

    first = bench.context.clock.spawn("first", lambda: create("only/first"))
    assert looked.wait(60)
    looked.clear()
    second = bench.context.clock.spawn("second", lambda: create("only/second"))
    assert not looked.wait(0.2), "the second has found that nobody creates files"
    go_on.set()
    assert first.join(60)
    assert second.join(60)
    assert order == [f"only/{step} {what}" for step in ("first", "second") for what in ("begins", "ends")]


@pytest.mark.parametrize(
    ("word", "lost", "state"),
    [(UP, False, StepState.PENDING), ("sold out", False, StepState.SKIPPED), ("cut off", True, StepState.LOST)],
)
def test_a_crew_that_comes_wakes_who_waits_for_it(tmp_path: Path, word: str, state: StepState, *, lost: bool):
    """And one that will not come: why, and whether the next attempt has another."""
    bench = Bench(tmp_path, FIRST, SECOND)
    board = Board(bench.context, PHASE)
    board.crews.clear()
    ends: list[Any] = []
    crews = bench.context.crews(PHASE)
    waiting = bench.context.clock.spawn("waits", lambda: ends.append(board.await_crews("only/first", crews)))
    board.wait(lambda _: board.wanted or None)
    board.tell_crew(crews[0].name, word, lost=lost)
    assert waiting.join(60)
    assert (ends[0].go, ends[0].state, ends[0].why) == (word == UP, state, "" if word == UP else word)


def test_a_step_has_begun_when_it_runs_for_the_first_time(tmp_path: Path):
    """Not before, and not again when it runs once more."""
    bench = Bench(tmp_path, FIRST, SECOND)
    board = Board(bench.context, PHASE)
    board.tell("only/first", StepState.PENDING)
    assert board.began == {}
    board.tell("only/first", StepState.RUNNING)
    (began,) = board.began.values()
    board.tell("only/first", StepState.DONE)
    board.tell("only/first", StepState.RUNNING)
    assert board.began == {"only/first": began}
