"""The database held by another process: a real SQLite file, and short patience."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.ledger import Ledger, open_ledger, store
from orchestrator.ledger.database import Busy
from orchestrator.ledger.rows import RunRow
from orchestrator.words.errors import DatabaseBusy, ExitCode, UsageError
from orchestrator.words.lifecycle import RunState
from orchestrator.world.clock import SystemClock
from orchestrator.world.contention import DatabaseWatch

HOLDER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "all":
    database.execute("pragma locking_mode=exclusive")
database.execute("begin exclusive")
database.execute("create table if not exists other (a)")
print("held", flush=True)
sys.stdin.read()
"""
RUN = RunRow(id="1101-aaaa", state=RunState.PLANNED, created_at=7.0)


@contextmanager
def held(home: Path, what: str = "writing") -> Iterator[None]:
    """Another process holds the write lock; `what` "all": nobody can read either."""
    words = [sys.executable, "-c", HOLDER, str(home / "gpuplan.db"), what]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(30)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with one run in it, that waits for half a second."""
    found = open_ledger(tmp_path, patience_s=0.5)
    found.runs.put(RUN)
    yield found
    found.close()


def test_reading_needs_no_write_lock(tmp_path: Path, ledger: Ledger):
    """While another process holds it, a ledger is opened and read at once."""
    del ledger
    with held(tmp_path):
        other = open_ledger(tmp_path, patience_s=0.0)
        assert other.runs.all() == [RUN]
        assert other.newest_run() == RUN.id
        other.close()


def test_a_write_that_waits_in_vain_names_the_file(tmp_path: Path, ledger: Ledger):
    """The patience that was given is kept to; the error says which file, and is no machine's or step's."""
    with held(tmp_path), pytest.raises(DatabaseBusy, match=r"gpuplan\.db") as raised:
        ledger.runs.change({"id": RUN.id}, stop="x")
    assert raised.value.exit_code == ExitCode.INTERNAL
    assert ledger.runs.get(id=RUN.id).stop == ""


def test_a_read_that_waits_in_vain_names_the_file(tmp_path: Path, ledger: Ledger):
    """The same where the holder lets nobody read."""
    ledger.close()
    with held(tmp_path, "all"):
        with pytest.raises(DatabaseBusy, match=r"gpuplan\.db"):
            ledger.runs.all()
        with pytest.raises(DatabaseBusy, match=r"gpuplan\.db"):
            open_ledger(tmp_path, patience_s=0.1)


def test_a_write_is_done_when_the_file_is_free_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run's ledger waits for ever: nothing fails, and what there was to write is written once it can be."""
    monkeypatch.setattr(store, "TRY_S", 0.05)
    patient = open_ledger(tmp_path, patience_s=float("inf"))
    with held(tmp_path):
        writer = threading.Thread(target=patient.runs.put, args=(RUN,), daemon=True)
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
    writer.join(30)
    assert patient.runs.all() == [RUN]
    patient.close()


def test_a_database_that_refuses_at_once_is_not_asked_without_pause(ledger: Ledger):
    """A server that is away says so in no time: it is asked a few times a second, not as often as it answers."""
    asked = []

    def refused() -> None:
        asked.append(1)
        raise Busy

    with pytest.raises(DatabaseBusy):
        ledger._patiently(refused)
    assert 2 <= len(asked) <= 0.5 / store.AGAIN_S + 2


def test_the_watch_says_when_it_is_held_and_when_it_is_free(tmp_path: Path):
    """One line that names the file, one when it is over; the run is not given up for it."""
    said: list[str] = []
    told = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        told.set()

    looked = open_ledger(tmp_path, patience_s=0.1)
    with held(tmp_path):
        watch = DatabaseWatch(looked, SystemClock(), say)
        assert told.wait(30)
        told.clear()
    assert told.wait(30)
    watch.end()
    assert [f"{tmp_path}/gpuplan.db" in text for text in said] == [True, True]
    assert "nothing is ended for it" in said[0]
    assert "can be written again" in said[1]
    assert watch.given_up is None


def test_the_watch_gives_up_in_the_end(tmp_path: Path):
    """After `give_up_s` the run is left as it is."""
    looked = open_ledger(tmp_path, patience_s=0.1)
    with held(tmp_path):
        watch = DatabaseWatch(looked, SystemClock(), lambda _: None, give_up_s=0.3)
        assert watch.join(30)
    assert isinstance(watch.given_up, DatabaseBusy)


def test_the_watch_gives_up_a_run_that_another_process_drives(tmp_path: Path):
    """At once: the connection that held it broke, and somebody was quicker."""
    looked = open_ledger(tmp_path, patience_s=0.1)
    watch = DatabaseWatch(looked, SystemClock(), lambda _: None, holds=lambda: False)
    assert watch.join(30)
    assert isinstance(watch.given_up, UsageError)
