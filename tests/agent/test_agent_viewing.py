"""What people on the machine see in the live view, on a clock of the test's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.conftest import AGENT

sys.path.insert(0, str(AGENT))
from gpuplan_agent import locks, viewing


class Clock:
    """Time passes where somebody sleeps, and with each sleep the next thing happens."""

    def __init__(self, happens: list[Callable[[], object]]) -> None:
        self.now, self.happens = 0.0, happens

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.happens:
            self.happens.pop(0)()


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a machine's jobs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".gpuplan" / "jobs"


def _job(jobs: Path, name: str, log: str) -> Path:
    folder = jobs / name
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(f'{{"job": "{name}"}}')
    (folder / "log").write_text(log)
    return folder


def _say(folder: Path, text: str) -> None:
    with (folder / "log").open("a") as log:
        log.write(text)


def test_the_view_follows_what_runs_until_nothing_has_spoken_for_long(
    jobs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Of jobs that ended before it nothing is shown; each change of the speaker is headed, a terminal never steered."""
    over = _job(jobs, "over", "long ago\n")
    (over / "exit.json").write_text('{"exit": 0}')
    runs = _job(jobs, "runs", "begun \033[2J\n")
    living = locks.take(str(runs / "alive"))

    def ends() -> None:
        (runs / "exit.json").write_text('{"exit": 0}')
        os.close(living)

    clock = Clock(
        [
            lambda: _say(runs, "more\n"),
            lambda: _say(_job(jobs, "third", ""), "now I\n"),
            *[lambda: None] * 2,
            lambda: _say(runs, "last words\n"),
            *[lambda: None] * 12,  # longer than the view is patient: what runs keeps it
            ends,
        ]
    )
    monkeypatch.setattr(viewing, "time", clock)
    monkeypatch.setattr(viewing, "LONGEST_SILENCE_S", 4.0)
    assert viewing.main([]) == 0
    assert capsys.readouterr().out == (
        "\n==> runs <==\nbegun ?[2J\nmore\n\n==> third <==\nnow I\n\n==> runs <==\nlast words\n"
    )
    assert clock.now == 8.5 + 4.0  # at 8.5 s it is last seen to run
