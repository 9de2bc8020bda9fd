"""A run whose controller was killed: whoever looks at it is told."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.tool import KILL, PLANS, Tool, until

SLOW = ("run", "all", "--plan", str(PLANS / "slow"), "--dry-run", "--yes")
LONG_RUNS = "select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"


def test_a_dead_controller_does_not_look_healthy(tool: Tool, tmp_path: Path):
    """After kill -9 each reading command's first line says that nobody drives the run, what it costs, and what to do.

    `reap` of another computer leaves the machine alone until its deadline, and names it with its price;
    `down` ends it without the engine, and the run counts as interrupted.
    """
    process = tool.start(*SLOW)
    until(lambda: tool.rows(LONG_RUNS), seconds=240)
    ((run,),) = tool.rows("select id from gpuplan_runs")
    assert tool.status()["driven"] is True
    driven = f"driven by process {process.pid} of this computer; $0.75/h now"
    assert [tool.run(command).stdout.splitlines()[0] for command in ("status", "cost")] == [driven, driven]
    following = tool.start("logs", "-f")
    assert following.stdout
    assert following.stdout.readline().startswith("only/")
    process.send_signal(KILL)
    process.communicate(timeout=240)
    said, _ = following.communicate(timeout=240)
    wanted = f"nobody drives it: gpuplan resume {run} goes on, gpuplan down {run} ends it; $0.75/h now; the machine "
    assert said.splitlines()[-1].startswith(wanted), said
    for command in (("status",), ("logs",), ("cost",), ("logs", "-f")):
        first = tool.run(*command).stdout.splitlines()[0]
        assert first.startswith(wanted), command
        assert first.endswith("ends itself 60 min after it last heard from here, once its step has ended"), command
    document = tool.status()
    assert (document["state"], document["driven"]) == ("RUNNING", False)
    (machine,) = tool.cloud.alive()["machines"]
    elsewhere = Tool(tmp_path / "elsewhere", tool.cloud)
    elsewhere.home.mkdir()
    (elsewhere.home / "owner").write_text((tool.home / "owner").read_text())
    ((name,),) = tool.rows("select name from gpuplan_machines")
    reaped = elsewhere.run("reap")
    assert reaped.returncode == 0, reaped.stderr
    assert f"left alone: runpod machine {name}, $0.75 an hour, to be gone by 20" in reaped.stdout
    assert tool.cloud.alive()["machines"] == [machine]
    done = tool.run("down", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "nothing of it is running" in done.stdout
    assert tool.cloud.alive()["machines"] == []
    document = tool.status()
    assert (document["state"], document["outcome"], document["driven"]) == ("DONE", "interrupted", False)
    assert "nobody drives it" not in tool.run("status").stdout
