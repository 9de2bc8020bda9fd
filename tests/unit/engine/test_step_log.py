"""A step's log at home."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engine import step_log
from orchestrator.engine.step_log import TIMES, StepLog
from orchestrator.transport.job_replies import Course
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Step
from tests.unit.engine.stepbench import PHASE, Bench
from tests.unit.engine.stepping import START, SteppingClock


def log_of(folder: Path) -> StepLog:
    return StepLog(Bench(folder).context, PHASE, f"{PHASE}/talk")


def _printed(*pieces: str) -> Any:
    """As much of an agent as is asked for what a job printed on standard output."""

    def stdout(_job: str, on_text: Callable[[str], None], _timeout_s: float) -> None:
        for piece in pieces:
            on_text(piece)

    return SimpleNamespace(stdout=stdout)


def test_what_earlier_jobs_printed_is_not_the_newest_ones(tmp_path: Path):
    """A search begins where the newest job began, and its lines are those of its standard output alone."""
    log = log_of(tmp_path)
    assert (log.is_empty, log.end(), list(log.lines()), log.prints("x")) == (True, "", [], False)
    log.restart("job.1")
    log.add("listening\n", 10)
    log.restart("job.1")
    assert (log.prints("listening"), log.offset) == (True, 10)
    log.fetch_stdout(_printed("listening\n"), "job.1", 1.0)
    assert list(log.lines()) == ["listening"]
    log.restart("job.2")
    assert (log.prints("listening"), log.offset, list(log.lines())) == (False, 0, [])
    log.add("10 %\r20 %\nlistening\n", 21)
    log.fetch_stdout(_printed("10 %\r20 %", "\nready\n"), "job.2", 1.0)
    assert list(log.lines()) == ["10 %", "20 %", "ready"]
    assert log.prints("listening")
    assert log.end(10) == "listening\n"
    assert log.last_lines(2) == "20 %\nlistening"


def test_a_text_is_found_though_it_came_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither a cut between two pieces, nor one between two blocks that are read, hides a text."""
    monkeypatch.setattr(step_log, "BLOCK", 4)
    log = log_of(tmp_path)
    log.restart("job")
    for piece in ("it is list", "eni", "ng on grü"):
        assert not log.prints("listening")
        log.add(piece, 0)
    assert log.prints("listening")
    assert not log.prints("grüße")
    log.add("ße", 0)
    assert log.prints("grüße")


def test_bytes_are_kept_and_replaced_only_when_shown(tmp_path: Path):
    """What a step printed is at home to the byte, by way of its done-record too; who reads it sees no broken text."""
    printed = b"\xfcber \xc3\xbc \xff\xed\xa0\x80 \xc3"
    step = Step(name="talk", run=r"printf '\374ber \303\274 \377\355\240\200 \303'; touch out", creates=("out",))
    bench, shown = Bench(tmp_path, step), list[str]()
    bench.context.log = lambda _step, text: shown.append(text)
    assert bench.run("talk").state == StepState.DONE
    log, readable = log_of(tmp_path), printed.decode("utf-8", "replace")
    stdout = log.path.with_suffix(".stdout")
    assert log.path.read_bytes() == stdout.read_bytes() == printed
    assert ("".join(shown), log.end(), list(log.lines())) == (readable, readable, [readable])

    log.path.unlink()
    stdout.unlink()
    assert bench.run("talk", 2).state == StepState.UP_TO_DATE
    assert log.path.read_bytes() == stdout.read_bytes() == printed


def test_the_end_of_a_long_log_is_read_without_the_rest(tmp_path: Path):
    """However long a log is, no more of it is read than was asked for; half a character at the cut is no error."""
    log = log_of(tmp_path)
    log.add("ü" * 100_000 + "\nlast\n", 0)
    assert len(log.end(1001).encode("utf-8", "replace")) < 1100
    assert log.last_lines(1) == "last"


def test_a_log_without_an_end_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beyond its bound nothing of a log is kept, and it says so, once; nor of what was printed."""
    monkeypatch.setattr(step_log, "LONGEST_LOG", 20)
    log = log_of(tmp_path)
    for _ in range(9):
        log.add("123456789\n", 0)
    log.fetch_stdout(_printed(*["123456789\n"] * 9), "job", 1.0)
    assert log.end() == "123456789\n" * 2 + "\n[gpuplan: this log is full: what follows is not kept here]\n"
    assert log.ends(100)[1] == "123456789\n" * 2


@pytest.mark.parametrize(("shows_gpu", "kept"), [(True, 1), (False, 0)])
def test_a_course_is_kept_of_a_gpu_alone(tmp_path: Path, shows_gpu: Any, kept: int):
    """The newest of a step on a node; what a CPU does that stands in for a card is none."""
    bench = Bench(tmp_path)
    bench.context.provider.shows_gpu = shows_gpu
    log = StepLog(bench.context, PHASE, f"{PHASE}/talk", 1)
    for points in (((5.0, 4.0),), ((5.0, 4.0), None)):
        log.keep_course(Course(datetime(2026, 1, 1, tzinfo=UTC), 5.0, points, ()), "m-1")
    log.keep_course(None, "m-1")
    rows = bench.context.ledger.courses.all(run=bench.context.run)
    assert [(row.node, row.machine, row.points) for row in rows] == [
        (1, "m-1", '{"memory":[[5.0,4.0],null],"busy":[]}')
    ] * kept


def test_the_time_of_new_output_is_written_once_a_second(tmp_path: Path):
    """From which byte on what came then is; not for each piece."""
    clock = SteppingClock()
    log = log_of(tmp_path)
    log._context.clock = clock
    for seconds in (0.0, 0.4, 0.7, 2.0):
        clock.sleep(seconds)
        log.add("four", 0)
    begun = START.timestamp()
    text = log.path.with_suffix(TIMES).read_text()
    assert text == f"{begun:.0f} 0\n{begun + 1.1:.0f} 8\n{begun + 3.1:.0f} 12\n"
