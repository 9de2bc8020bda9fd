"""Several controllers on one PostgreSQL: runs are queued, taken over, looked at and ended from any of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.tool import KILL, PLANS, Tool, until
from tests.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("postgres")]
SLOW = ("run", "all", "--plan", str(PLANS / "slow"), "--dry-run", "--yes", "--queue")
TAKEN_WITHIN_S = 20.0  # as docs/controllers.md says


@pytest.fixture
def ask(shared_database: str) -> Callable[[str], list[tuple[Any, ...]]]:
    """What the shared ledger says."""

    def asked(statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(shared_database.replace("+psycopg", "")) as one:
            return one.execute(statement.encode()).fetchall()

    return asked


@pytest.fixture
def computers(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_database: str
) -> tuple[Tool, Tool, Tool]:
    """Three computers on one database: the first's owner is the second's too, the third has no key."""
    monkeypatch.setenv("GPUPLAN_DATABASE_URL", shared_database)
    others = [Tool(tmp_path / name, tool.cloud) for name in ("second", "third")]
    for other in others:
        other.home.mkdir()
    assert tool.run("owner", "export", str(tmp_path / "me")).returncode == 0
    done = others[0].run("owner", "import", str(tmp_path / "me"))
    assert done.returncode == 0, done.stderr
    return tool, others[0], others[1]


def test_a_worker_goes_on_where_another_was_killed(
    computers: tuple[Tool, Tool, Tool], ask: Callable[[str], list[tuple[Any, ...]]]
):
    """After `kill -9` in the middle of a step: within twenty seconds the other drives, and nothing comes twice."""
    first, second, third = computers
    queued = first.run(*SLOW)
    assert queued.returncode == 0, queued.stderr
    one = first.start("worker")
    until(lambda: ask("select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"), seconds=200)
    two = second.start("worker")
    ((run, pid),) = ask("select id, pid from gpuplan_runs")
    assert pid == one.pid
    assert third.status()["driven"] is True
    one.send_signal(KILL)
    killed = time.monotonic()
    until(lambda: ask(f"select 1 from gpuplan_runs where pid = {two.pid}"), seconds=60)
    assert time.monotonic() - killed < TAKEN_WITHIN_S
    until(lambda: ask("select 1 from gpuplan_runs where state = 'DONE'"), seconds=200)
    two.send_signal(KILL)
    said, _ = two.communicate(timeout=60)
    assert f"{run}: taking it" in said
    assert third.status()["outcome"] == "succeeded", third.run("status").stdout + said
    assert len(first.creates()) == 1
    assert ask("select attempt, state from gpuplan_steps where id = 'only/quick'") == [(1, "DONE")]
    assert "only/long | second half 60" in third.run("logs", run).stdout


def test_a_server_that_restarts_ends_nothing_and_doubles_nothing(
    computers: tuple[Tool, Tool, Tool], ask: Callable[[str], list[tuple[Any, ...]]], server: Server
):
    """In the middle of a step the database crashes and is back, and the lock with it: one of two workers goes on.

    Which one is theirs to find out: the first still runs, and the second sees a run that nobody holds.
    """
    first, second, third = computers
    assert first.run(*SLOW).returncode == 0
    one, two = first.start("worker"), second.start("worker")
    until(lambda: ask("select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"), seconds=200)
    server.restart()
    until(lambda: ask("select 1 from gpuplan_runs where state = 'DONE'"), seconds=200)
    for worker in (one, two):
        worker.send_signal(KILL)
    said = [worker.communicate(timeout=60)[0] for worker in (one, two)]
    assert third.status()["outcome"] == "succeeded", said
    assert (len(first.creates()), first.cloud.alive()["machines"]) == (1, [])
    assert sorted(ask("select id, attempt, state from gpuplan_steps")) == [
        ("only/long", 1, "DONE"), ("only/quick", 1, "DONE"),
    ]  # fmt: skip


def test_without_the_key_a_run_is_watched_and_taken_down(
    computers: tuple[Tool, Tool, Tool], ask: Callable[[str], list[tuple[Any, ...]]]
):
    """`resume` says which key is missing and how it comes; `down` ends the machine, and the books are closed."""
    first, _, third = computers
    assert first.run(*SLOW).returncode == 0
    one = first.start("worker")
    until(lambda: ask("select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"), seconds=200)
    ((run,),) = ask("select id from gpuplan_runs")
    one.send_signal(KILL)
    one.communicate(timeout=60)
    assert json.loads(third.run("ls", "--json").stdout)["runs"][0]["run"] == run
    resumed = third.run("resume", run, "--yes")
    assert resumed.returncode == 2
    assert "begun with another SSH key" in resumed.stderr
    assert "gpuplan owner export" in resumed.stderr
    down = third.run("down", run)
    assert (down.returncode, first.cloud.alive()["machines"]) == (0, []), down.stderr
    assert first.status()["state"] == "DONE"
