"""`kill -9` of the controller at a recorded effect, in its middle and right after it; then resume, or down."""

from __future__ import annotations

import pytest

from tests.e2e.tool import INT, KILL, PLANS, Tool, until

SAVING = ("run", "all", "--plan", str(PLANS / "saving"), "--dry-run", "--yes")
SLOW = ("run", "all", "--plan", str(PLANS / "slow"), "--dry-run", "--yes")

QUICK = ["after:verify"]  # a sample: the stories of tests/unit/engine die at every effect
ALL = [
    "run-1", "create-1.0.0", "after:wait-1.1", "upload", "end_machines",
    "begin", "begin#2", "volume", "after:volume", "take_over-1", "offers-1", "missing_nodes-1",
    "request-1.0.0", "after:request-1.0.0", "after:create-1.0.0", "wait-1.1", "prepare-1", "after:prepare-1",
    "begin_steps-1", "open_steps-1", "needs", "up-to-date", "room", "after:run-1", "verify", "end", "collect",
    "manifest", "after:upload", "put_manifest", "judge", "tear_down", "after:end_machines", "bring_home", "end_volumes",
    "settle", "close",
]  # fmt: skip


@pytest.mark.parametrize("effect", [*QUICK, *(pytest.param(e, marks=pytest.mark.faults) for e in ALL)])
def test_resume_goes_on_where_a_killed_run_was(tool: Tool, effect: str):
    """Done after resume; no machine was created twice, no finished step ran twice, nothing is left."""
    process = tool.start(*SAVING, killed_at=effect)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -KILL, output
    resumed = tool.run("resume", "--yes", timeout=180)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert len(tool.creates()) == 1
    (log,) = tool.home.glob("runs/*/logs/only/count.log")
    ran = log.read_text().split("\n")
    finished_once = effect != "after:run-1"
    assert ran.count("end of second") == 1, "a finished step ran again" if finished_once else ran
    assert ran.count("first") == 1
    assert tool.cloud.alive()["machines"] == []
    assert tool.status()["outcome"] == "succeeded"


@pytest.mark.faults  # tests/unit/engine/stories have it too, in seconds
def test_a_step_that_was_being_stopped_when_its_run_was_killed_is_no_failure(tool: Tool):
    """Ctrl-C stopped the job, kill -9 came before the record: resume starts the step again, and it is done."""
    process = tool.start(*SLOW, killed_at="run-1#2")
    until(lambda: tool.rows("select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"))
    process.send_signal(INT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == -KILL, output
    resumed = tool.run("resume", "--yes", timeout=120)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert len(tool.creates()) == 1


@pytest.mark.faults  # tests/unit/engine/stories have it too, in seconds
def test_an_ended_run_is_resumed_as_its_second(tool: Tool):
    """Resuming an interrupted run starts RUN.2 on the same plan; what is done on the volume is not done again."""
    process = tool.start(*SLOW)
    until(lambda: tool.rows("select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"))
    assert tool.run("down", timeout=120).returncode == 0
    process.communicate(timeout=60)
    second = tool.start("resume", "--yes")
    until(lambda: tool.rows("select 1 from gpuplan_runs where id like '%.2'"))
    until(
        lambda: tool.rows(
            "select 1 from gpuplan_steps where run like '%.2' and id = 'only/quick' and state = 'UP_TO_DATE'"
        )
    )
    assert tool.run("down", timeout=120).returncode == 0
    second.communicate(timeout=60)
    assert tool.cloud.alive()["machines"] == []
