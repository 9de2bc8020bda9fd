"""Who drives a run, by a lock of a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from orchestrator.ledger.run_locks import RunLocks
from orchestrator.words.errors import DatabaseBusy
from tests.server import Server

pytestmark = pytest.mark.xdist_group("postgres")
RUN = "1101-aaaa"
HOLDER = """
import sys
from orchestrator.ledger.run_locks import RunLocks
held = RunLocks(sys.argv[1]).take(sys.argv[2])
print(held is not None, flush=True)
sys.stdin.read()
"""


def test_one_process_drives_a_run(shared_database: str):
    """Another one is told no, and everybody that it is driven; other runs are free, and it is once it is let go."""
    one, two = RunLocks(shared_database), RunLocks(shared_database)
    assert not one.is_held(RUN)
    held = one.take(RUN)
    assert held is not None
    assert held.holds()
    assert (two.take(RUN), two.is_held(RUN), two.is_held("1101-bbbb")) == (None, True, False)
    held.let_go()
    assert not two.is_held(RUN)
    assert two.take(RUN) is not None


def test_a_killed_process_holds_nothing(shared_database: str):
    """After `kill -9` the next one has it as soon as the server sees that."""
    words = [sys.executable, "-c", HOLDER, shared_database, RUN]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        locks = RunLocks(shared_database)
        assert locks.take(RUN) is None
        process.kill()
        process.wait(30)
        give_up = time.monotonic() + 20
        while locks.take(RUN) is None:
            assert time.monotonic() < give_up


def test_who_was_cut_off_learns_whose_the_run_is(shared_database: str, server: Server):
    """Its own still, taken anew; or another's, if that one was quicker."""
    one, two = RunLocks(shared_database), RunLocks(shared_database)
    cut = "SELECT pg_terminate_backend(pid, 30000) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
    held = one.take(RUN)
    assert held is not None
    server.do(cut)
    assert held.holds()  # whatever it was: the server was away
    assert held.holds()
    assert two.is_held(RUN)
    server.do(cut)
    assert two.take(RUN) is not None
    assert held.holds()  # it sees that it was cut off
    assert not held.holds()


def test_a_server_that_is_away_is_said(server: Server):
    """Nobody is taken for undriven because of it."""
    locks = RunLocks(server.url("nowhere"))
    for ask in (locks.is_held, locks.take):
        with pytest.raises(DatabaseBusy, match="the database does not answer"):
            ask(RUN)
