"""Reading and writing the ledger. Every write is one IMMEDIATE transaction: nothing is read, decided and lost."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.ledger import rows as kinds
from orchestrator.ledger import sql, tables
from orchestrator.ledger.book import Access, Book, StateBook
from orchestrator.ledger.database import Busy, Connection, Cut, Database, is_busy
from orchestrator.ledger.sqlite import SqliteFile
from orchestrator.words.errors import DatabaseBusy
from orchestrator.words.lifecycle import MachineState, may_move

T = TypeVar("T")
PATIENCE_S = 30.0  # how long a command waits for a database that another process holds
_UNPAID = "UPDATE gpuplan_charges SET until = :moment WHERE machine = :machine AND until IS NULL"
_PAYS = "SELECT phase FROM gpuplan_charges WHERE machine = :machine AND until IS NULL"
_NEWEST_EVENTS = (
    "SELECT id, run, at, text, minor FROM gpuplan_events WHERE run = :run AND minor <= :minor "
    "ORDER BY id DESC LIMIT :count"
)
_NEWEST_RUN = "SELECT id FROM gpuplan_runs ORDER BY created_at DESC LIMIT 1"
AGAIN_S = 0.2  # between two tries: a file is waited for by the try itself, a server that is away says so at once
TRY_S = 5.0  # of which each try: a longer one would not see that the wait is over


def open_ledger(
    home: Path, url: str | None = None, now: Callable[[], float] = time.time, patience_s: float = PATIENCE_S
) -> Ledger:
    """Open (and make, when it is not there) the ledger of this GPUPLAN_HOME, or the one at a database URL.

    `now`, `patience_s`: see Ledger.
    """
    if url:
        return Ledger(url, now, patience_s)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = home / "gpuplan.db"
    if not file.exists():
        file.touch(mode=0o600)
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=min(patience_s, PATIENCE_S))) as plain:
            if plain.execute("pragma journal_mode").fetchone() != ("wal",):  # to look takes no write lock
                plain.execute("pragma journal_mode=wal")  # a property of the file: 4 ms a durable step instead of 23
    except sqlite3.OperationalError as error:
        if is_busy(error):
            raise _held(SqliteFile(str(file), 0)) from error
        raise
    return Ledger(f"sqlite:///{file}", now, patience_s)


class Ledger:
    """One book for each table. DatabaseBusy: another process held the database for longer than it was waited for."""

    def __init__(self, url: str, now: Callable[[], float] = time.time, patience_s: float = PATIENCE_S) -> None:
        """`now`: Unix seconds that go on evenly; all times in the ledger are of this one line.

        `patience_s`: real seconds that a busy database is waited for, by each read and each write; infinity: for ever.
        """
        self.url, self.now, self.patience_s = url, now, patience_s
        self.writes = 0  # transactions of this process so far: who shows the ledger need not read it to see a change
        self._database = self._open(url, min(TRY_S, patience_s))
        self._patiently(self._make_tables)
        access = Access(self.write, self.read, self._database.ordered)
        self.runs = StateBook(access, tables.runs, kinds.RunRow)
        self.phases = StateBook(access, tables.phases, kinds.PhaseRow)
        self.steps = StateBook(access, tables.steps, kinds.StepRow)
        self.machines = StateBook(access, tables.machines, kinds.MachineRow)
        self.volumes = StateBook(access, tables.volumes, kinds.VolumeRow)
        self.deliverables = Book(access, tables.deliverables, kinds.DeliverableRow)
        self.charges = Book(access, tables.charges, kinds.ChargeRow)
        self.volume_uses = Book(access, tables.volume_uses, kinds.VolumeUseRow)
        self.claims = Book(access, tables.claims, kinds.ClaimRow)
        self.artifacts = Book(access, tables.artifacts, kinds.ArtifactRow)
        self.records = Book(access, tables.records, kinds.RecordRow)
        self.figures = Book(access, tables.figures, kinds.FigureRow)
        self.courses = Book(access, tables.courses, kinds.CourseRow)
        self.host_keys = Book(access, tables.host_keys, kinds.HostKeyRow)
        self.events = Book(access, tables.events, kinds.EventRow)
        self.transfers = Book(access, tables.transfers, kinds.TransferRow)
        self.is_shared = tables.files in self._database.tables  # other computers may go on with what is begun here
        self.files = Book(access, tables.files, kinds.FileRow)  # where it is shared alone

    @property
    def where(self) -> str:
        """The database, in words: its file, or its URL without the password."""
        return self._database.where

    def _make_tables(self) -> None:
        """Make what is missing; where nothing is, as nearly always, no write lock is needed.

        A ledger that an older version made gets the columns that came later, with their defaults, and room for nothing
        where there had to be something. A database that was found complete before says so by its version.
        """
        database = self._database
        version = tables.version_of(database.tables)
        if database.version() == version:
            return
        with database.begin() as connection:  # nobody else makes them meanwhile
            for table in database.tables:
                there = database.columns(table.name)
                strict = [c.name for c in table.columns if c.is_nullable and there.get(c.name)]
                missing = [c for c in table.columns if there and c.name not in there]
                made = sql.create(table, database.numbered, database.kinds)
                for statement in [*made, *(sql.add(table, c, database.kinds) for c in missing)]:
                    connection.execute(statement, {})
                for statement in database.relax(table, strict) if strict else ():
                    connection.execute(statement, {})
        database.note_version(version)

    def _open(self, url: str, wait_s: float) -> Database:
        if url.startswith("sqlite:///"):
            return SqliteFile(url.removeprefix("sqlite:///"), wait_s)
        from orchestrator.ledger.postgres import Server  # a second of imports, for those who have a server

        return Server(url, wait_s)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction that holds the write lock from its beginning."""
        with contextlib.ExitStack() as block:
            yield self._patiently(lambda: block.enter_context(self._database.begin()))
        self.writes += 1

    def write(self, body: Callable[[Connection], T]) -> T:
        """What the body returns, done in one transaction; again where the connection was lost within it.

        It may be lost after the server has committed: a body that is done twice does no more than once.
        """
        while True:
            try:
                with self.transaction() as connection:
                    return body(connection)
            except Cut:
                continue

    def read(self, statement: str, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """What a statement finds; `values` are those of its parameters."""
        return self._patiently(lambda: self._database.read(statement, values))

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call until the database is free. DatabaseBusy: it was not for `patience_s`."""
        give_up = time.monotonic() + self.patience_s
        while True:
            try:
                return call()
            except Busy as error:
                if time.monotonic() >= give_up:
                    raise _held(self._database) from error
                time.sleep(min(AGAIN_S, self.patience_s))

    def charge(self, machine: str, run: str, phase: str, moment: float) -> None:
        """From that moment this phase pays for the machine, and whoever did before does no more. Idempotent."""
        values = {"machine": machine, "phase": phase, "moment": moment}

        def pays(connection: Connection) -> None:
            connection.execute(f"{_UNPAID} AND phase <> :phase", values)
            if not connection.execute(_PAYS, values).fetchall():
                row = kinds.ChargeRow(machine=machine, run=run, phase=phase, since=moment)
                self.charges.put_in(connection, row)

        self.write(pays)

    def gone(self, machine: str, reason: str, state: MachineState, at: float | None = None) -> None:
        """The machine has ended (DESTROYED or LOST), and nobody pays for it from then on. `at` None: now."""
        ended, key = at or self.now(), {"name": machine}
        values: dict[str, object] = {"gone_at": ended} | ({"reason": reason} if reason else {})

        def ends(connection: Connection) -> None:
            old = self.machines.state_in(connection, key)
            if old is not None and (may_move(old, state) or may_move(old, MachineState.DESTROYING)):
                self.machines.write_in(connection, key, state, values)
            connection.execute(_UNPAID, {"machine": machine, "moment": ended})

        self.write(ends)

    def event(self, run: str, text: str, *, minor: bool = False) -> None:
        """Note something that a person may want to read later; `minor`: only who looks closely."""
        self.events.put(kinds.EventRow(id=0, run=run, at=self.now(), text=text, minor=minor))

    def newest_events(self, run: str, count: int, *, minor: bool = True) -> list[kinds.EventRow]:
        """The run's last events, oldest first; `minor` False: without the minor ones."""
        found = self.read(_NEWEST_EVENTS, {"run": run, "count": count, "minor": int(minor)})
        return [kinds.EventRow(id=r[0], run=r[1], at=r[2], text=r[3], minor=bool(r[4])) for r in reversed(found)]

    def newest_run(self) -> str | None:
        """The id of the run that was created last; None: there is none."""
        found = self.read(_NEWEST_RUN, {})
        return str(found[0][0]) if found else None


def _held(database: Database) -> DatabaseBusy:
    said, remedy = database.held
    return DatabaseBusy(said.format(where=database.where), remedy=remedy)
