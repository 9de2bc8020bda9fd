"""Another process holds our own database: a backup, a viewer, a synced folder. No machine and no step pays for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.tool import KILL, PLANS, Tool, until

SLOW = ("run", "all", "--plan", str(PLANS / "slow"), "--dry-run", "--yes")
LONG_RUNS = "select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"
SHORT_OF_PATIENCE = """
from functools import partial
from orchestrator import runner
runner.drive = partial(runner.drive, give_up_s=4)
"""
COMMAND_SHORT_OF_PATIENCE = """
from orchestrator import ledger
whole = ledger.open_ledger
ledger.open_ledger = lambda *given, **_: whole(*given, patience_s=1)
"""


@contextmanager
def held(tool: Tool, *, all_of_it: bool = False) -> Iterator[None]:
    """The write lock of the home's database, in this process. `all_of_it`: nobody can read either."""
    database = sqlite3.connect(tool.home / "gpuplan.db", timeout=60, isolation_level=None)
    if all_of_it:
        database.execute("pragma locking_mode=exclusive")
    database.execute("begin immediate")
    database.execute("update gpuplan_runs set stop = stop")
    try:
        yield
    finally:
        database.close()


def test_a_database_that_stays_busy_ends_nothing(tool: Tool):
    """The file is named; at last exit code 7, the machine lives, reading works, and `resume` finds the work."""
    process = tool.start(*SLOW, changed=SHORT_OF_PATIENCE)
    until(lambda: tool.rows(LONG_RUNS), seconds=240)
    with held(tool):
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 7, said
        assert f"the database is held by another process: {tool.home}/gpuplan.db; nothing is ended for it" in said
        assert "gpuplan resume" in said.splitlines()[-1]
        assert len(tool.cloud.alive()["machines"]) == 1
        document = tool.status()
        assert (document["state"], document["driven"], document["usd_hour"]) == ("RUNNING", False, "0.74792")
    resumed = tool.run("resume", "--yes", timeout=240)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert len(tool.creates()) == 1
    assert tool.rows("select attempt, state from gpuplan_steps where id = 'only/quick'") == [(1, "DONE")]


@pytest.mark.parametrize(
    "all_of_it", [False, pytest.param(True, marks=pytest.mark.faults)], ids=["writing", "reading-too"]
)
def test_down_ends_the_machine_beside_a_busy_database(tool: Tool, *, all_of_it: bool):
    """What cannot be written down is ended by its name: exit code 7, and once more when the file is free: 0."""
    process = tool.start(*SLOW)
    until(lambda: tool.rows(LONG_RUNS), seconds=240)
    process.send_signal(KILL)
    process.communicate(timeout=240)
    ((run,),) = tool.rows("select id from gpuplan_runs")
    with held(tool, all_of_it=all_of_it):
        done = tool.run("down", run, changed=COMMAND_SHORT_OF_PATIENCE)
        assert (done.returncode, tool.cloud.alive()["machines"]) == (7, []), done.stderr
        assert "gpuplan.db" in done.stderr
        assert "was ended" in done.stderr
    assert tool.run("down").returncode == 0
    assert tool.status()["state"] == "DONE"
