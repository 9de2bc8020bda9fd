"""GPUs over time: from the agent's course to the picture."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.report.page import charts, gather, html
from orchestrator.report.page.account import Account, Course
from orchestrator.words.spec import RunSpec
from tests.unit.report.test_page import refuse_outside
from tests.unit.report.written import HOSTILE, Elements, Written

BEGIN = datetime(2026, 11, 2, tzinfo=UTC)
WORDS = "GPU memory and utilisation of train#1 over time"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def account(made: Written) -> Account:
    return made.account()


def _labels(page: str) -> list[str | None]:
    return [a.get("aria-label") for tag, a in Elements(page).found if tag == "svg"]


def test_what_the_agent_saw_is_kept_and_drawn(account: Account):
    """A step's course is the machine's, within the time of the step, and a gap in it is none in the other line."""
    (course,) = account.courses
    (step,) = (s for p in account.seen.phases for s in p.steps if s.name == "train")
    assert step.started
    assert step.ended
    assert (course.step, course.machine, course.every_s) == ("train/train", "train#1", 40)
    assert step.started <= course.since < step.ended
    assert (course.memory[0], course.memory[45], len(course.memory)) == ((71.5, 60.0), None, 90)
    page = html.page(account)
    assert WORDS in _labels(page)
    refuse_outside(page)


def test_a_gap_is_drawn_as_one(account: Account):
    """Where nothing was seen there is no line: memory's two lines have two pieces each, the others one."""
    ((_, picture),) = charts.over_time(account.courses, account.seen.started or account.until, account.until)
    pieces = [part.count("<path") for part in re.split(r'class="series serie-', picture.svg)[1:]]
    assert [count for count in pieces if count] == [2, 2, 1, 1]


def test_a_machines_wrong_clock_moves_nothing_out_of_its_step(made: Written, account: Account):
    """Ten hours behind or ahead, what it saw is drawn where the step ran."""
    ledger = made.desk.bench.ledger()
    (row,) = ledger.courses.all(run=made.desk.bench.spec.run)
    (step,) = (s for p in account.seen.phases for s in p.steps if s.name == "train")
    for hours in (-10, 10):
        ledger.courses.put(replace(row, since=row.since + hours * 3600))
        (course,) = gather.courses(ledger, made.desk.bench.spec)
        assert step.started
        assert step.ended
        assert step.started <= course.since <= step.ended - timedelta(seconds=40 * 89)
    ledger.courses.put(row)


def test_nothing_is_drawn_where_no_gpu_was(made: Written, account: Account):
    """A run of before there were courses shows its peaks; a rehearsal says that a CPU stood in, and draws nothing."""
    before = html.page(replace(account, courses=()))
    assert WORDS not in _labels(before)
    assert "GPU memory and utilisation, peaks of each step" in _labels(before)
    spec = made.desk.bench.spec
    rehearsed: RunSpec = spec.model_copy(update={"world": spec.world.model_copy(update={"dry_run": True})})
    assert gather.courses(made.desk.bench.ledger(), rehearsed) == ()


def test_a_picture_is_no_finer_than_can_be_seen():
    """Two days at five seconds are merged as they are drawn, and the one moment of full memory is still there."""
    points = tuple((99.0 if n == 777 else 10.0, 10.0) for n in range(34560))
    course = Course("s", HOSTILE, BEGIN, 5.0, points, ())
    ((name, picture),) = charts.over_time([course], BEGIN, BEGIN + timedelta(days=2))
    assert name == HOSTILE
    assert len(picture.svg) < 60_000
    every_s, drawn = charts._no_finer(5.0, points, 172800 / charts.FINEST)
    assert (every_s, len(drawn)) == (640.0, 270)
    assert max(p[0] for p in drawn if p) == 99.0


def test_the_first_machines_are_drawn(account: Account):
    """Of twenty machines twelve have a picture, and the page counts the others."""
    (course,) = account.courses
    page = html.page(replace(account, courses=tuple(replace(course, machine=f"m#{n}") for n in range(20))))
    assert len([label for label in _labels(page) if label and label.endswith("over time") and "m#" in label]) == 12
    assert "8 more machines are not drawn" in page


def test_a_run_is_forgotten_with_its_courses(tmp_path: Path):
    """Gpuplan rm leaves none."""
    from orchestrator.world.tidy import forget

    made = Written(tmp_path)
    run = made.desk.bench.spec.run
    assert made.desk.bench.ledger().courses.all(run=run)
    forget(made.desk.home, made.desk.bench.ledger(), run)
    assert not made.desk.bench.ledger().courses.all(run=run)
