"""A run in the middle of a step: others look at it, are refused beside it, and end it from outside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import forked
from tests.e2e.tool import PLANS, Process, Tool, until

pytestmark = pytest.mark.xdist_group("a living run")
LONG_RUNS = "select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"


@dataclass(frozen=True)
class Living:
    """A run whose long step runs, the words that began it, and its name."""

    tool: Tool
    process: Process
    words: tuple[str, ...]
    run: str


@pytest.fixture(scope="module")
def _begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Living]]]:
    """Where the run lies, and the run itself once a test has asked for it; it is over with the last of them."""
    runs: list[Living] = []
    yield tmp_path_factory.mktemp("living"), runs
    for one in runs:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate(timeout=60)
        one.tool.cloud.stop()


@pytest.fixture
def living(_begun: tuple[Path, list[Living]]) -> Living:
    """One run, whose step takes longer than all that is asked here; the last test of the file ends it."""
    folder, runs = _begun
    if not runs:
        plan = folder / "slow"
        shutil.copytree(PLANS / "slow", plan)
        for file in plan.rglob("*.yaml"):
            text = file.read_text().replace("seq 1 60", "seq 1 1200").replace("timeout: 2m", "timeout: 20m")
            file.write_text(text.replace("timeout: 10m", "timeout: 30m"))
        tool = Tool(folder / "home", forked.cloud(folder / "cloud"))
        tool.home.mkdir()
        words = ("run", "all", "--plan", str(plan), "--dry-run", "--yes")
        process = tool.start(*words)
        until(lambda: tool.rows(LONG_RUNS), seconds=120)
        ((run,),) = tool.rows("select id from gpuplan_runs")
        runs.append(Living(tool, process, words, run))
    return runs[0]


def test_logs_and_ssh_reach_a_living_run(living: Living):
    """`logs --step` prints what a step said so far; `ssh -c` runs a command on its machine."""
    tool = living.tool
    until(lambda: "second half 3" in tool.run("logs", "--step", "long").stdout, seconds=60)
    until(lambda: "disk" in tool.run("status").stdout)  # what the step uses now
    there = tool.run("ssh", "-c", "echo here; exit 7")
    assert (there.stdout, there.returncode) == ("here\n", 7), there.stderr


def test_two_processes_do_not_drive_one_run(living: Living):
    """A resume beside a living run refuses, exit code 2; in the background too, exit code 1: nothing waits for ever."""
    for words, code in ((("resume", "--yes"), 2), (("resume", "--detach", "--yes"), 1)):
        beside = living.tool.run(*words)
        assert beside.returncode == code, beside.stderr
        assert "another process is driving" in beside.stderr
    assert living.process.poll() is None


def test_a_second_run_on_a_volume_in_use_is_refused(living: Living, tmp_path: Path):
    """Beside a living run nothing is rented, exit code 2; from another home the lease ends the second run, exit 3."""
    tool = living.tool
    beside = tool.run(*living.words)
    assert (beside.returncode, len(tool.creates())) == (2, 1)
    assert f"{living.run} is running" in beside.stderr
    elsewhere = Tool(tmp_path / "elsewhere", tool.cloud)
    elsewhere.home.mkdir()
    (elsewhere.home / "owner").write_text((tool.home / "owner").read_text())  # a team shares it
    second = elsewhere.run(*living.words)
    assert second.returncode == 3, second.stdout + second.stderr
    assert f"held by {living.run}" in second.stdout
    assert len(tool.cloud.alive()["machines"]) == 1


def test_down_ends_a_living_run_from_outside(living: Living):
    """`down` in another terminal stops the run as Ctrl-C does: its process ends with 6."""
    done = living.tool.run("down", living.run, timeout=120)
    assert done.returncode == 0, done.stderr
    output, _ = living.process.communicate(timeout=60)
    assert living.process.wait() == 6, output
    assert living.tool.cloud.alive()["machines"] == []
