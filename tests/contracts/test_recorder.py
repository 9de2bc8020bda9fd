"""One contract for both recorders: DBOS's, in processes that die, and the one in memory that the bench runs on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.engine.effects import RunEnd
from orchestrator.testing.clock import ManualClock
from orchestrator.testing.recorder import MemoryRecorder, Records
from orchestrator.words.lifecycle import Outcome
from tests import forked
from tests.contracts import recorder_story
from tests.contracts.recorder_story import DIED, HOLD, RUN, Story
from tests.server import DATABASES

SEEN = [
    "[Answer(name='a', ok=True, detail='b')]",
    "StepFailed: no",
    "GpuplanError: internal error in bug: ZeroDivisionError: oh",
    "PhaseEnd(outcome=<Outcome.SUCCEEDED: 'succeeded'>)",
]
EFFECTS = ["value", "ours", "bug", "in-phase", "in-step", "last"]
END = repr(RunEnd(Outcome.FAILED, ("something",)))
Play = Callable[..., str]


class _DeathError(BaseException):
    pass


def _in_memory(folder: Path) -> Play:
    records = Records()

    def play(*where: str) -> str:
        def trigger(_workflow: str, effect: str, when: str) -> None:
            if (when, effect) == where:
                raise _DeathError

        try:
            return repr(MemoryRecorder(records, Story(folder), ManualClock(), RUN, trigger).run())
        except _DeathError:
            return ""

    return play


def _over_dbos(url: str, folder: Path, run: str = RUN) -> Play:
    def play(*where: str) -> str:
        process = _begun(url, folder, run, *where)
        said, errors = process.communicate(120)
        assert process.wait() in (0, DIED), errors
        return said.strip()

    return play


def _begun(url: str, folder: Path, run: str, *where: str) -> forked.Forked:
    words = ["recorder_story", url, run, str(folder), *where]
    return forked.Forked(f"{recorder_story.__name__}:main", words, env=os.environ, cwd=folder, apart=True)


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    return request.getfixturevalue("shared_database") if request.param else f"sqlite:///{tmp_path / 'gpuplan.db'}"


@pytest.fixture(params=["memory", *DATABASES])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Plays the story in a new process, as it were; `where`: it dies there, and nothing is returned."""
    if request.param == "memory":
        return _in_memory(tmp_path)
    found = request.getfixturevalue("shared_database") if request.param else f"sqlite:///{tmp_path / 'gpuplan.db'}"
    return _over_dbos(found, tmp_path)


def test_values_errors_and_branches_come_back_as_they_are(play: Play, tmp_path: Path):
    """An effect's value has its type, an error of ours its class, a bug is one of ours, a branch its end."""
    assert play() == END
    assert json.loads((tmp_path / "seen.json").read_text()) == SEEN
    assert (tmp_path / "done.txt").read_text().split() == ["value", "ours", "bug", "in-phase", "p", "last"]


OTHERS = [pytest.param(effect, marks=pytest.mark.faults) for effect in ("value", "ours")]  # a process each: slow


@pytest.mark.parametrize("effect", ["in-phase", "last", *OTHERS])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_recorded_is_not_done_again(play: Play, tmp_path: Path, when: str, effect: str):
    """After a death the story is played again: recorded effects give their results, the unrecorded one runs again."""
    assert play(when, effect) == ""
    assert play() == END
    assert json.loads((tmp_path / "seen.json").read_text()) == SEEN
    lines = (tmp_path / "done.txt").read_text().splitlines()
    ran = {name: lines.count(name) for name in ("value", "ours", "bug", "in-phase p", "last")}
    again = "in-phase p" if effect == "in-phase" else effect
    assert ran == {name: 2 if name == again and when == "before" else 1 for name in ran}


def test_a_story_that_has_ended_gives_its_end_again(play: Play, tmp_path: Path):
    """Playing it once more runs nothing and returns the same."""
    assert play() == END
    before = (tmp_path / "done.txt").read_text()
    assert play() == END
    assert (tmp_path / "done.txt").read_text() == before


def test_a_run_that_is_taken_up_is_played_by_nobody_else(url: str, tmp_path: Path):
    """A second run, driven beside it on the same database, does its own effects, each once, and none of the first's."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    assert _over_dbos(url, first)("before", "in-phase") == ""
    (second / HOLD).touch()
    beside = _begun(url, second, "1102-two")
    while not (second / "done.txt").exists():
        assert beside.poll() is None
        time.sleep(0.05)
    assert _over_dbos(url, first)() == END
    (second / HOLD).unlink()
    out, errors = beside.communicate(60)
    assert out.strip() == END, errors
    assert (first / "done.txt").read_text().count("in-phase") == 2
    assert (second / "done.txt").read_text().splitlines() == ["value", "ours", "bug", "in-phase p", "last"]
