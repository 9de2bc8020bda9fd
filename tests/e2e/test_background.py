"""Runs without a terminal, second looks at what is done, and machines that end themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.tool import KILL, PLANS, Tool, until

SLOW = ("run", "all", "--plan", str(PLANS / "slow"), "--dry-run", "--yes")
SMALL = ("run", "all", "--plan", str(PLANS / "small"), "--dry-run", "--yes")
ONE = ("run", "one", "--plan", str(PLANS / "small"), "--dry-run", "--yes")
LONG_RUNS = "select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"


def ended(tool: Tool) -> bool:
    """Whether the newest run is done and its driver gone: then nobody holds its lock."""
    ((pid, state),) = tool.rows("select pid, state from gpuplan_runs order by created_at desc limit 1")
    return state == "DONE" and not Path(f"/proc/{pid}").exists()


def test_a_detached_run_goes_on_to_its_end(tool: Tool):
    """`run --detach` returns once the background drives the run; what it prints is kept, tables and all."""
    begun = tool.run(*SMALL, "--detach")
    assert begun.returncode == 0, begun.stderr
    assert "goes on in the background" in begun.stdout
    until(lambda: ended(tool))
    assert tool.status()["outcome"] == "succeeded"
    (said,) = tool.home.glob("runs/*/console.log")
    assert "8 hold" in said.read_text()
    assert tool.cloud.alive()["machines"] == []


@pytest.mark.faults  # test_kills ends a run from outside, and the test above one in the background
def test_down_ends_a_detached_run(tool: Tool):
    """With --json one document names the run and its process; `down` from elsewhere ends it."""
    begun = json.loads(tool.run(*SLOW, "--detach", "--json").stdout)
    until(lambda: tool.rows(LONG_RUNS))
    assert tool.rows("select pid from gpuplan_runs where id = ?", begun["run"]) == [(begun["pid"],)]
    assert tool.run("down", begun["run"], timeout=120).returncode == 0
    until(lambda: ended(tool))
    assert tool.status()["outcome"] == "interrupted"
    assert tool.cloud.alive()["machines"] == []


@pytest.mark.faults  # tests/unit/cli/test_nothing_to_do has it too, in seconds
@pytest.mark.parametrize("whole", [True, False])
def test_check_looks_again_at_what_is_done(tool: Tool, *, whole: bool):
    """`--check` rents a machine for a done phase: all there, and nothing runs again; a file lost, and it says which."""
    assert tool.run(*ONE).returncode == 0
    before = len(tool.creates())
    assert "up to date as of" in tool.run(*ONE).stdout
    if not whole:
        (made,) = {path.resolve() for path in Path(tool.cloud.file).parent.rglob("out/hello.txt")}
        made.unlink()
    done = tool.run(*ONE, "--check")
    assert len(tool.creates()) == before + 1
    assert tool.cloud.alive()["machines"] == []
    if whole:
        assert done.returncode == 0, done.stdout
        assert {s["state"] for s in tool.status()["phases"][0]["steps"]} == {"UP_TO_DATE"}
    else:
        assert done.returncode == 5
        assert "more work than was previewed: one/make-file" in done.stdout


def test_an_abandoned_machine_stops_and_ends_itself(tool: Tool):
    """`--deadman`: after kill -9 the step is stopped and the rehearsed pod deletes itself, with nobody's help."""
    process = tool.start(*SLOW, "--deadman", "0.1")
    until(lambda: tool.rows(LONG_RUNS))
    process.send_signal(KILL)
    process.communicate(timeout=30)
    assert len(tool.cloud.alive()["machines"]) == 1
    until(lambda: tool.cloud.alive()["machines"] == [], seconds=40)
    left = [entry["action"] for entry in tool.cloud.log()]
    assert left.count("create-machine") == 1
    assert tool.run("down", timeout=120).returncode == 0
