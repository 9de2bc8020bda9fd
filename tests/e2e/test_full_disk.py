"""The disk at home is full: nothing can be written down, and nothing is left running."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import forked
from tests.e2e.tool import KILL, PLANS, Tool, until

SLOW = ("run", "all", "--plan", str(PLANS / "slow"), "--dry-run", "--yes")
LONG_RUNS = "select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Tool]:
    """A home on a file system of its own, of 30 MB."""
    room = tmp_path / "room"
    room.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(room)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small file system can only be made by root")
    cloud = forked.cloud(tmp_path / "cloud")
    (room / "home").mkdir()
    try:
        yield Tool(room / "home", cloud)
    finally:
        cloud.stop()
        subprocess.run(["umount", "-l", str(room)], check=True)


def fill(tool: Tool) -> Path:
    """Use up all that is left."""
    file = tool.home.parent / "fill"
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            return file


def test_a_run_on_a_full_disk_ends_its_machine(small: Tool):
    """Exit code 7, since the ledger does not know it; the machine is gone, and `down` tidies up later."""
    process = small.start(*SLOW)
    until(lambda: small.rows(LONG_RUNS))
    filled = fill(small)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 7, said
    assert small.cloud.alive()["machines"] == []
    assert "was ended" in said
    filled.unlink()
    done = small.run("down")
    assert done.returncode == 0, done.stderr
    assert small.status()["state"] == "DONE"


def test_down_on_a_full_disk_ends_the_machine(small: Tool):
    """`down` after a kill: the machine goes, the exit code is 7, and the advice is to make room and say it again."""
    process = small.start(*SLOW)
    until(lambda: small.rows(LONG_RUNS))
    process.send_signal(KILL)
    process.communicate(timeout=30)
    filled = fill(small)
    done = small.run("down")
    assert (done.returncode, small.cloud.alive()["machines"]) == (7, []), done.stderr
    assert "make room on the disk" in done.stderr
    filled.unlink()
    assert small.run("down").returncode == 0
