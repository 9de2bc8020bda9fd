"""The ledger on a real PostgreSQL: what differs from a file there must not be seen."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.ledger import DatabaseFailed, Ledger, open_ledger
from orchestrator.ledger.database import Connection
from orchestrator.ledger.postgres import GONE_S, connected
from orchestrator.ledger.rows import (
    ArtifactRow,
    ClaimRow,
    DeliverableRow,
    MachineRow,
    RunRow,
    StepRow,
)
from orchestrator.words.errors import DatabaseBusy
from orchestrator.words.lifecycle import MachineState, RunState, StepState
from tests.server import Server

pytestmark = pytest.mark.xdist_group("postgres")
RUN = RunRow(id="1101-aaaa", state=RunState.PLANNED, created_at=7.0)
MACHINE = MachineRow(
    name="m", run="r", phase="p", request="1", node=0, provider="runpod", type_id="t", gpu="A100-80GB", gpus=1,
    place="EU", price_hour=Decimal("1.19"), state=MachineState.CREATED,
)  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path, shared_database: str) -> Iterator[Ledger]:
    with closing(open_ledger(tmp_path, shared_database, patience_s=0.5)) as made:
        yield made


def test_a_number_of_bytes_may_be_any(ledger: Ledger):
    """A file of 300 GB is more than four bytes can count."""
    row = ArtifactRow(run="r", store="s", name="f", state="VERIFIED", bytes=300 << 30, sha256="", at=1.0)
    ledger.artifacts.put(row)
    assert ledger.artifacts.get(name="f") == row


def test_a_text_may_hold_what_the_server_cannot(ledger: Ledger):
    """A machine printed the one character that no text of PostgreSQL may have: something else stands there."""
    ledger.event("r", "before\0after")
    assert [row.text for row in ledger.events.all(run="r")] == ["before\N{REPLACEMENT CHARACTER}after"]


def test_rows_come_in_the_same_order_as_from_a_file(tmp_path: Path, ledger: Ledger):
    """Whatever was written last: by position, then by key in the order of its bytes; no time comes before any."""

    def written(one: Ledger) -> list[list[str]]:
        for name in ("b", "A", "a", "Z"):
            one.steps.put(StepRow(run="r", phase=name, id="s", position=0, state=StepState.PENDING))
            one.claims.put(ClaimRow(world="", label=name, run="r"))
            at = None if name == "Z" else 5.0
            one.machines.put(replace(MACHINE, name=name, requested_at=at))
        one.steps.change({"phase": "A"}, detail="later")
        steps, machines = one.steps.all(run="r"), one.machines.all(run="r")
        return [[s.phase for s in steps], [c.label for c in one.claims.all(world="")], [machines[0].name]]

    with closing(open_ledger(tmp_path)) as file:
        assert written(ledger) == written(file) == [["A", "Z", "a", "b"], ["A", "Z", "a", "b"], ["Z"]]


def test_no_update_is_lost(ledger: Ledger, tmp_path: Path, shared_database: str):
    """Four writers read and write the same row twenty times: eighty it is."""
    ledger.artifacts.put(ArtifactRow(run="r", store="s", name="f", state="", bytes=0, sha256="", at=1.0))

    def count(_writer: int) -> None:
        with closing(open_ledger(tmp_path, shared_database)) as mine:
            for _ in range(20):
                with mine.transaction() as one:
                    found = one.execute("SELECT bytes FROM gpuplan_artifacts", {}).fetchall()[0][0]
                    one.execute("UPDATE gpuplan_artifacts SET bytes = :bytes", {"bytes": found + 1})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert ledger.artifacts.get(name="f").bytes == 80


def test_an_open_ledger_makes_nothing_anew(ledger: Ledger, tmp_path: Path, shared_database: str):
    """Who opens it while another process writes does not wait: it knows that its tables are complete."""
    with ledger.transaction(), closing(open_ledger(tmp_path, shared_database, patience_s=0.2)) as other:
        assert other.runs.all() == []


def test_a_database_of_an_older_version_gets_what_came_later(tmp_path: Path, server: Server):
    """Columns with their defaults, and room for nothing where there had to be something; what is there stays."""
    url = server.new("template0")
    with sa.create_engine(url).begin() as old:
        old.execute(sa.text("create table gpuplan_runs (id text primary key, state text, created_at float)"))
        old.execute(sa.text("insert into gpuplan_runs values ('1101-aaaa', 'DONE', 7.0)"))
        columns = "run text not null, phase text not null, name text not null, position integer not null"
        key = "detail text not null, primary key (run, phase, name)"
        old.execute(sa.text(f"create table gpuplan_deliverables ({columns}, ok integer not null, {key})"))
    for _ in range(2):
        with closing(open_ledger(tmp_path, url)) as ledger:
            assert ledger.runs.all() == [RunRow(id="1101-aaaa", state=RunState.DONE, created_at=7.0)]
            row = DeliverableRow(run="r", phase="p", name="n", ok=None, detail="")
            ledger.deliverables.put(row)
            assert ledger.deliverables.all() == [row]


def test_a_writer_who_waits_says_which_database(ledger: Ledger, tmp_path: Path, shared_database: str):
    """Another process holds the write lock: reading goes on, writing gives up after its patience."""
    with closing(open_ledger(tmp_path, shared_database)) as other, other.transaction():
        assert ledger.runs.all() == []
        before = time.monotonic()
        with pytest.raises(DatabaseBusy, match=r"the database does not answer: postgresql\+psycopg://postgres@"):
            ledger.runs.put(RUN)
        assert time.monotonic() - before < 20
    ledger.runs.put(RUN)
    assert ledger.runs.get(id=RUN.id) == RUN


@pytest.mark.parametrize("moment", ["within it", "before its commit", "after its commit"])
def test_a_write_is_done_whatever_becomes_of_its_connection(
    ledger: Ledger, tmp_path: Path, shared_database: str, moment: str, monkeypatch: pytest.MonkeyPatch
):
    """It is cut while it is under way, just before it is committed, or before we hear that it was: it is done."""
    ledger.runs.put(RUN)
    came = list[str]()
    writes = ledger.runs.write_in

    def cut(connection: Connection, *what: Any) -> None:
        came.append(moment)
        ((pid,),) = connection.execute("SELECT pg_backend_pid()", {}).fetchall()
        kill = lambda: other.read("SELECT pg_terminate_backend(:pid, 5000)", {"pid": pid})  # noqa: E731  one line
        if len(came) == 1 and moment == "within it":
            kill()
        writes(connection, *what)
        if len(came) == 1 and moment == "after its commit":
            connection.execute("COMMIT", {})
            connection.execute("SELECT 1", {})  # begins another, whose commit is what fails
        if len(came) == 1 and moment != "within it":
            kill()

    monkeypatch.setattr(ledger.runs, "write_in", cut)
    with closing(open_ledger(tmp_path, shared_database)) as other:
        ledger.runs.move({"id": RUN.id}, RunState.RUNNING, pid=7)
    assert len(came) == 2
    assert ledger.runs.all() == [replace(RUN, state=RunState.RUNNING, pid=7)]


def test_connections_that_the_server_has_ended_are_made_anew(ledger: Ledger, server: Server):
    """A restart, or a cut: the next statement is asked again."""
    ledger.runs.put(RUN)
    server.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test%'")
    assert ledger.runs.get(id=RUN.id) == RUN
    server.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test%'")
    ledger.runs.change({"id": RUN.id}, pid=9)
    assert ledger.runs.get(id=RUN.id).pid == 9


def test_a_server_that_never_answered_is_said_at_once(tmp_path: Path, server: Server):
    """A wrong address is no busy database."""
    with pytest.raises(DatabaseFailed, match="does not exist"):
        open_ledger(tmp_path, server.url("nowhere"))


def test_each_side_notices_in_time_that_the_other_is_gone(shared_database: str):
    """Kernel and server give a silent connection up within GONE_S, as docs/controllers.md reckons: idle, or sending."""
    with connected(shared_database).connect() as one:
        asked = "SELECT name, setting FROM pg_settings WHERE name ~ '^tcp_'"
        theirs = {str(name): int(value) for name, value in one.exec_driver_sql(asked)}
        plain = one.connection.driver_connection
        assert plain is not None
        with socket.socket(fileno=os.dup(plain.fileno())) as ours:
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            mine = [ours.getsockopt(socket.IPPROTO_TCP, option) for option in options]
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    for idle, interval, count, sending_ms in (mine, [theirs[name] for name in names]):
        assert 0 < idle + interval * count <= GONE_S
        assert 0 < sending_ms <= GONE_S * 1000
    taken_within_s = 20  # tests/e2e/test_controllers.py
    said = (Path(__file__).parents[3] / "docs" / "controllers.md").read_text()
    taken = f"so its run is taken over within {GONE_S + taken_within_s}"
    assert f"taken for gone after {GONE_S} seconds, {taken}" in said
