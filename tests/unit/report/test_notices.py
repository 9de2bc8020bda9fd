"""What is told of a run: each thing once, in words that call nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from orchestrator.report.notices import KINDS, Notice, Notices, NoticesView, ended, quiet, undriven
from orchestrator.report.snapshot import Snapshot
from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, RunState
from orchestrator.words.model import NoticeKind
from orchestrator.words.secret import Secret
from tests.unit.report.written import HOSTILE
from tests.unit.view_pictures import RUNNING, at

FRESH = replace(
    RUNNING,
    phases=tuple(replace(p, state=PhaseState.PLANNED, outcome=None, steps=(), started=None) for p in RUNNING.phases),
    cost_usd=Decimal(0),
)
NOW = at(300)


def spent(usd: str, picture: Snapshot = RUNNING) -> Snapshot:
    return replace(picture, cost_usd=Decimal(usd))


def kinds(found: Sequence[Notice]) -> list[NoticeKind]:
    return [one.kind for one in found]


def test_a_run_is_told_from_its_start():
    """The plan, the run, its phases and its budget; then a phase that has ended, with time and cost; each once."""
    notices = Notices(KINDS)
    (start,) = notices.of(FRESH, [], NOW)
    assert start.title == "shipped r1: has started"
    assert start.text == "day1, day2-3, day4-5; $0.00 of $90.00 spent, now $1.89/h"
    (phase,) = notices.of(RUNNING, [], NOW)
    assert phase.kind == "phase_done"
    assert phase.title == "shipped r1: day1  succeeded, 4.0s, $0.50; machine gone"
    assert notices.of(RUNNING, [], NOW) == []


def test_who_takes_a_run_up_tells_nothing_twice():
    """What the first picture shows was told by the process before: only that it goes on is new."""
    notices = Notices(KINDS)
    (first,) = notices.of(spent("50"), [("day1", "one", "gone")], NOW)
    assert first.title == "shipped r1: goes on"
    assert notices.of(spent("50"), [("day1", "one", "gone")], NOW) == []


def test_each_share_of_the_budget_is_told_once():
    """50, 80, 100 percent, the highest that is reached; with what earlier runs spent of it."""
    notices = Notices({"budget"})
    found = [notices.of(spent(usd), [], NOW) for usd in ("1", "44.9", "45", "50", "89", "91", "95")]
    titles = [[one.title.partition(": ")[2] for one in some] for some in found]
    assert titles == [
        [], [], ["50 % of the budget is spent"], [], ["80 % of the budget is spent"],
        ["100 % of the budget is spent"], [],
    ]  # fmt: skip
    shared = Notices({"budget"}, Decimal(40))
    shared.of(spent("1"), [], NOW)
    assert kinds(shared.of(spent("6"), [], NOW)) == ["budget"]


def test_a_deliverable_that_fails_is_told_with_its_evidence():
    """Once, with its phase; and only what is wanted is told at all."""
    notices = Notices({"deliverable_failed"})
    assert notices.of(FRESH, [], NOW) == []
    (one,) = notices.of(RUNNING, [("day1", "fast enough", "5 tokens/s, at least 10")], NOW)
    assert (one.title, one.text) == ("shipped r1: does not hold: fast enough (day1)", "5 tokens/s, at least 10")
    assert notices.of(RUNNING, [("day1", "fast enough", "5 tokens/s, at least 10")], NOW) == []


def test_the_end_is_told_with_what_is_left():
    """How it ended, time, cost, deliverables, why; and, apart, what may still cost money with what ends it."""
    over = replace(RUNNING, state=RunState.DONE, ended=at(3600))
    (done,) = ended(over, Outcome.SUCCEEDED, [], "24 hold", "")
    assert (done.title, done.text) == ("shipped r1: succeeded", "1h 00m, $1.23; 24 hold")
    failed, left = ended(over, Outcome.FAILED, ["day1#1 (no answer)"], "3 hold", "train: exit code 1")
    assert failed.text.splitlines()[-1] == "train: exit code 1"
    assert left.kind == "left_running"
    assert left.text == "day1#1 (no answer)\ngpuplan down r1 ends it"
    assert undriven("r1", "shipped", "$1.89/h now").title == "shipped r1: nobody drives it any more"


def test_a_rehearsal_says_that_it_is_one():
    """In every title."""
    (start,) = Notices(KINDS).of(replace(FRESH, dry_run=True), [], NOW)
    assert start.title == "shipped r1, a rehearsal: has started"


def test_what_others_wrote_calls_nobody():
    """No mention, no tag, no control character, no secret, one line."""
    kept = Secret("hf_abcdefgh")
    said = quiet(f"{HOSTILE}\n<!channel> @everyone token {kept.reveal()}")
    assert not set(said) & set("@<>\n\x1b\x07\u202e")
    assert "hf_abcdefgh" not in said
    assert "(at)everyone token ***" in said


class Shown:
    """A view that remembers."""

    def __init__(self) -> None:
        self.pictures: list[Snapshot] = []
        self.said: list[str] = []

    def update(self, snapshot: Snapshot) -> None:
        self.pictures.append(snapshot)

    def log(self, step: str, line: str) -> None:
        self.said.append(f"{step} {line}")

    progress = log

    def say(self, text: str) -> None:
        self.said.append(text)

    def confirm(self, question: str, given_up: object) -> bool:
        return question == "yes?"


@pytest.mark.parametrize("where", ["ledger", "sender"])
def test_nothing_that_goes_wrong_with_a_notice_shows_elsewhere(where: str):
    """The picture is drawn all the same, and what happened is a line."""

    def broken(*_: object) -> list[tuple[str, str, str]]:
        raise RuntimeError("no")

    def refuses(_notice: Notice) -> None:
        raise RuntimeError("no")

    shown, told = Shown(), list[Notice]()
    if where == "ledger":
        view = NoticesView(shown, Notices(KINDS), broken, told.append)
    else:
        view = NoticesView(shown, Notices(KINDS), list, refuses)
    view.update(RUNNING)
    assert (shown.pictures, shown.said) == ([RUNNING], ["notify: no"])
    view.log("s", "line")
    view.say("word")
    assert shown.said[1:] == ["s line", "word"]
    assert view.confirm("yes?", lambda: False)


def test_no_machine_is_no_price():
    """A run whose machines are gone says no dollars an hour."""
    gone = tuple(replace(m, state=MachineState.DESTROYED) for m in FRESH.machines)
    (start,) = Notices(KINDS).of(replace(FRESH, machines=gone), [], NOW)
    assert "/h" not in start.text
