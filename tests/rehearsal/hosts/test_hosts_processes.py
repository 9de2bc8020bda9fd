"""How the processes of emulated machines are found and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.rehearsal import processes


class Sleeper(subprocess.Popen[bytes]):
    """A shell that waits for its child."""

    child: int


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Sleeper]:
    """A shell that carries the mark of a machine, and a child of it in a session of its own."""
    env = {processes.MARK: str(tmp_path / "it's a cloud/hosts/m1"), "PATH": os.environ["PATH"]}
    command = ["bash", "-c", "setsid sleep 60 & echo $!; wait"]
    process = Sleeper(command, env=env, stdout=subprocess.PIPE, start_new_session=True)
    process.child = int(process.stdout.readline())
    yield process
    processes.end(processes.marked(tmp_path))
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("source", ["_from_proc", "_from_ps"])
def test_a_machines_processes_are_found_in_both_ways(
    sleeper: Sleeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
):
    """Through /proc and through ps: by the mark of the machine or of a folder above it, and not by a similar name."""
    if source == "_from_proc" and not processes.PROC.exists():
        pytest.skip("no /proc here")
    monkeypatch.setattr(processes, "table", getattr(processes, source))
    both = {sleeper.pid, sleeper.child}
    assert processes.members(processes.marked(tmp_path / "it's a cloud/hosts/m1")) == both
    assert processes.members(processes.marked(tmp_path / "it's a cloud/hosts")) == both
    assert processes.members(processes.marked(tmp_path / "it's a cloud/hosts/m")) == set()
    assert processes.members(processes.marked(tmp_path / "it's a cloud/hosts/m1/x")) == set()
    assert processes.members(lambda _: False, [sleeper.pid]) == both
    process = processes.table()[sleeper.pid]
    assert (process.parent, process.group) == (os.getpid(), sleeper.pid)


def test_end_kills_all_members_and_counts_none_left(sleeper: Sleeper, tmp_path: Path):
    """After end nothing that belongs is alive; a zombie is not counted."""
    assert processes.end(processes.marked(tmp_path)) == 0
    assert processes.table()[sleeper.pid].state == "Z"
    assert processes.members(processes.marked(tmp_path)) == set()


def test_this_process_is_never_a_member():
    """Whatever belongs, the one that asks is left out."""
    assert os.getpid() not in processes.members(lambda process: process.pid == os.getpid())


def test_a_process_that_threw_its_environment_away_is_known_by_its_folder(tmp_path: Path):
    """Working below the machine's folder is enough."""
    if not processes.PROC.exists():
        pytest.skip("no /proc here")
    (tmp_path / "m1/work").mkdir(parents=True)
    process = subprocess.Popen(["sleep", "60"], env={}, cwd=tmp_path / "m1/work")
    assert processes.members(processes.marked(tmp_path / "m1")) == {process.pid}
    assert processes.end(processes.marked(tmp_path / "m1")) == 0
    assert process.wait() == -9


@pytest.mark.parametrize("text", ["", "x", "12 34\n", "nonsense 5"])
def test_job_files_that_are_half_written_stop_nothing(tmp_path: Path, text: str):
    """A pid file that is empty or no number is passed over; the first number counts."""
    job = tmp_path / "home/.gpuplan/jobs/j"
    job.mkdir(parents=True)
    (job / "pid").write_text(text)
    assert processes.job_groups(tmp_path) == ({12} if text.startswith("12") else set())


def test_a_first_process_ends_everything_when_its_daemon_is_killed(tmp_path: Path):
    """The other end of its socket closing is enough, without daemon and guard."""
    code = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from orchestrator.rehearsal.spawner import Spawner\n"
        "async def main():\n"
        "    spawner = Spawner([], [])\n"
        "    null = os.open('/dev/null', os.O_RDWR)\n"
        "    command = ['env', '-i', 'sleep', '60']\n"
        "    child = await spawner.start(command, cwd=Path('/'), env=dict(os.environ), descriptors=(null,) * 3)\n"
        "    print(child.pid, spawner.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    daemon = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child, first = (int(text) for text in daemon.stdout.readline().split())
    assert {child, first} <= processes.members(lambda process: process.pid in {child, first})
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    for _ in range(500):
        if not processes.members(lambda process: process.pid in {child, first}):
            return
        import time

        time.sleep(0.01)
    pytest.fail("they live on")
