"""Ways a run can be left: a closed terminal, a broken pipe, nohup, Ctrl-C before it began, a budget that is used up."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.tool import GPUPLAN, INT, PLANS, TERM, Finished, Tool, until

SLOW = ("run", "all", "--plan", str(PLANS / "slow"), "--dry-run", "--yes")
SMALL = ("run", "all", "--plan", str(PLANS / "small"), "--dry-run", "--yes")
LONG_RUNS = "select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"


def test_a_closed_terminal_stops_the_run_as_ctrl_c_does(tool: Tool):
    """The driver outlives its terminal for as long as it takes to end the machine: exit code 6."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*GPUPLAN, *SLOW], env=tool.env(TERM="xterm"), stdin=slave, stdout=slave, stderr=slave, cwd=tool.home,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    until(lambda: tool.rows(LONG_RUNS))
    os.close(master)
    process.send_signal(signal.SIGHUP)
    process.wait(60)
    assert tool.cloud.alive()["machines"] == []
    document = tool.status()
    assert (document["state"], document["outcome"]) == ("DONE", "interrupted")


def test_a_reader_that_goes_away_does_not_end_the_run(tool: Tool):
    """`gpuplan run ... | head -1`: the run goes on to its end and everything is ended."""
    process = tool.start(*SMALL)
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    process.wait(90)
    document = tool.status()
    assert (document["state"], document["outcome"]) == ("DONE", "succeeded")
    assert tool.cloud.alive()["machines"] == []


@pytest.mark.faults
def test_nohup_is_respected(tool: Tool):
    """A run whose SIGHUP is ignored, as under nohup, is not interrupted when its terminal closes."""
    process = subprocess.Popen(
        ["nohup", *GPUPLAN, *SMALL], env=tool.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, cwd=tool.home,
    )  # fmt: skip
    until(lambda: tool.rows("select 1 from gpuplan_machines where state = 'REACHABLE'"))
    process.send_signal(signal.SIGHUP)
    process.wait(90)
    assert process.returncode == 0


@pytest.mark.parametrize(
    "number",
    [INT, pytest.param(TERM, marks=pytest.mark.faults), pytest.param(signal.SIGHUP, marks=pytest.mark.faults)],
    ids=["ctrl-c", "sigterm", "a closed terminal"],
)
def test_a_signal_before_the_run_began_leaves_nothing(tool: Tool, number: int):
    """While the rehearsal starts or the preview is made: exit code 6, no run folder, no daemon."""
    process = tool.start(*SLOW, GPUPLAN_REHEARSAL="")
    until(lambda: list(tool.home.glob("runs/*/rehearsal")))
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 6, output
    assert list(tool.home.glob("runs/*")) == []
    listed = subprocess.run(["ps", "-axo", "args="], capture_output=True, text=True, check=True).stdout
    assert str(tool.home / "runs") not in listed


@pytest.mark.faults  # tests/unit/engine/stories have it too, in seconds
def test_a_used_up_budget_ends_the_machine(tool: Tool):
    """What accrues passes the phase's cap: the step is stopped, the machine ended, exit code 5."""
    done = tool.run("run", "all", "--plan", str(PLANS / "costly"), "--dry-run", "--yes")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "budget" in done.stdout
    assert tool.cloud.alive()["machines"] == []
    assert tool.status()["outcome"] == "over_budget"


def one_phase(folder: Path, limits: str) -> str:
    """A plan of one phase with a step of half a minute, within those limits."""
    folder.mkdir()
    text = "name: only\nmachine: {gpu: [RTX-4090]}\nLIMITS\nsteps:\n  - {name: long, run: sleep 30, expect: 0.001s}\n"
    (folder / "only.yaml").write_text(text.replace("LIMITS", limits))
    (folder / "gpuplan.yaml").write_text("boot_seconds: 0.001\n")
    return str(folder)


@pytest.mark.faults  # tests/unit/engine/stories have it too, in seconds
def test_a_phase_that_takes_too_long_is_stopped(tool: Tool, tmp_path: Path):
    """Its time-out ends the step and the machine: exit code 3, with the words for it."""
    done = tool.run("run", "all", "--plan", one_phase(tmp_path / "plan", "timeout: 5s"), "--dry-run", "--yes")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "took longer than its time-out of 5 s" in done.stdout
    assert tool.cloud.alive()["machines"] == []


@pytest.mark.faults  # tests/unit/engine/stories have it too, in seconds
def test_a_phases_budget_is_watched_while_its_machine_boots(tool: Tool, tmp_path: Path):
    """A machine that boots for ever costs: exit code 5 as soon as the budget is used up, and it is ended."""
    tool.cloud.arm("boot-never")
    folder = one_phase(tmp_path / "plan", "timeout: 10m\nbudget_usd: 0.0005")
    done = tool.run("run", "all", "--plan", folder, "--dry-run", "--yes")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "the budget of only is $0.0005" in done.stdout
    assert tool.cloud.alive()["machines"] == []


def test_resume_ends_what_a_finished_run_could_not(tool: Tool):
    """No delete worked at the end of a run: exit code 7. With the API back, `resume` ends the machine: exit code 0."""
    refusing = """
from orchestrator.engine import gone
from orchestrator.engine.effects import NotGone
gone.machine = lambda *_, **__: NotGone("the API is down")
"""
    first = tool.run("run", "one", *SMALL[2:], changed=refusing, timeout=180)
    assert first.returncode == 7, first.stdout + first.stderr
    assert "the API is down" in first.stderr
    assert tool.cloud.alive()["machines"] != []
    resumed = tool.run("resume", "--yes", timeout=120)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "the API is down" not in resumed.stderr
    assert tool.cloud.alive()["machines"] == []
    assert tool.rows("select state, outcome from gpuplan_runs") == [("DONE", "succeeded")]


@pytest.mark.xdist_group("finished")
def test_pull_fetches_from_the_store(finished: Finished):
    """`pull --to` brings every artifact of a run from its store, verified; a second one fetches nothing again."""
    tool = finished.tool
    first = tool.run("pull", "--to", "home-again")
    assert first.returncode == 0, first.stderr
    assert (tool.home / "home-again" / "out" / "hello.txt").read_text() == "hello from one\n"
    assert "already there" in tool.run("pull", "--to", "home-again").stdout


def test_a_run_whose_volume_was_taken_meanwhile_stops(tool: Tool, tmp_path: Path):
    """As after a night asleep: another run has the lease, so this one stops, names it, and ends its machine."""
    plan = tmp_path / "plan"
    shutil.copytree(PLANS / "slow", plan)
    with (plan / "gpuplan.yaml").open("a") as settings:
        settings.write("deadman_minutes: 0.05\n")  # heartbeats come four times as often
    process = tool.start("run", "all", "--plan", str(plan), "--dry-run", "--yes")
    until(lambda: tool.rows(LONG_RUNS))
    (lease,) = {path.resolve() for path in Path(tool.cloud.file).parent.rglob(".gpuplan/leases/*.1")}
    lease.with_suffix(".2").write_text(json.dumps({"holder": "1231-else", "expires": time.time() + 60}))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert "taken by the run 1231-else" in said
    assert tool.cloud.alive()["machines"] == []


@pytest.mark.parametrize(
    ("damage", "commands"),
    [('{"run": "x", "of_tomorrow": 1}', ("status", "down", "resume", "logs")), ("{", ("status",))],
)
@pytest.mark.xdist_group("finished")
def test_a_run_of_another_version_is_named_not_a_traceback(
    finished: Finished, tmp_path: Path, damage: str, commands: tuple[str, ...]
):
    """A run.json that cannot be read: exit code 2, the file, and where else to look for what may still run."""
    shutil.copytree(finished.tool.home, tmp_path / "home")
    tool = Tool(tmp_path / "home", finished.tool.cloud)
    (file,) = tool.home.glob("runs/*/run.json")
    file.write_text(damage)
    for command in commands:
        done = tool.run(command)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert f"{file} is damaged, or of another version of gpuplan" in done.stderr
        assert "gpuplan reap" in done.stderr


@pytest.mark.faults
def test_down_of_the_newest_run_names_others_that_go_on(tool: Tool):
    """`down` without a name ends the newest run, and says that an older one is still there, and how to end it."""
    first = tool.start(*SLOW)
    until(lambda: tool.rows(LONG_RUNS))
    ((older,),) = tool.rows("select id from gpuplan_runs")
    assert tool.run(*SMALL).returncode == 0
    for command in ("down", "status"):
        assert f"{older} has not ended either: gpuplan status {older}, gpuplan down {older}" in tool.run(command).stdout
    assert tool.run("down", older, timeout=120).returncode == 0
    first.communicate(timeout=60)
    assert "has not ended" not in tool.run("status").stdout
