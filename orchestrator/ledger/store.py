"""Reading and writing the ledger. Every write is one IMMEDIATE transaction: nothing is read, decided and lost."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.ledger import rows as kinds
from orchestrator.ledger import tables
from orchestrator.ledger.book import Access, Book, StateBook
from orchestrator.words.errors import DatabaseBusy
from orchestrator.words.lifecycle import MachineState, may_move
from orchestrator.words.secret import hide

T = TypeVar("T")
PATIENCE_S = 30.0  # how long a command waits for a database that another process holds
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
            raise _held(str(file)) from error
        raise
    return Ledger(f"sqlite:///{file}", now, patience_s)


@cache
def _compiled(sqlite: bool) -> dict[object, object]:  # noqa: FBT001  one for each of two dialects
    del sqlite
    return {}


class Ledger:
    """One book for each table. DatabaseBusy: another process held the database for longer than it was waited for."""

    def __init__(self, url: str, now: Callable[[], float] = time.time, patience_s: float = PATIENCE_S) -> None:
        """`now`: Unix seconds that go on evenly; all times in the ledger are of this one line.

        `patience_s`: real seconds that a busy database is waited for, by each read and each write; infinity: for ever.
        """
        self.url, self.now, self.patience_s = url, now, patience_s
        self._sqlite = url.startswith("sqlite")
        arguments = {"timeout": min(TRY_S, patience_s)} if self._sqlite else {}
        self.writes = 0  # transactions of this process so far: who shows the ledger need not read it to see a change
        # Reads take no write lock. Compiled statements are shared: a process opens its ledger more than once.
        self._engine, self._reader = (
            sa.create_engine(url, connect_args=arguments).execution_options(compiled_cache=_compiled(self._sqlite))
            for _ in range(2)
        )
        if self._sqlite:
            sa.event.listen(self._engine, "connect", _no_implicit_begin)
            sa.event.listen(self._engine, "begin", _begin_immediate)
        self._patiently(self._make_tables)
        access = Access(self.transaction, self.read, self._upsert)
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
        self.metrics = Book(access, tables.metrics, kinds.MetricRow)
        self.host_keys = Book(access, tables.host_keys, kinds.HostKeyRow)
        self.events = Book(access, tables.events, kinds.EventRow)

    @property
    def where(self) -> str:
        """The database, in words: its file, or its URL without the password."""
        made = sa.make_url(self.url)
        return made.database or "" if self._sqlite else made.render_as_string()

    def _make_tables(self) -> None:
        """Make what is missing; where nothing is, as nearly always, no write lock is needed.

        A ledger that an older version made gets the columns that came later, with their defaults. A file that was
        found complete before says so by its version (SQLite only).
        """
        if self._is_complete():
            return
        with self._reader.connect() as connection:
            seen = sa.inspect(connection)
            names = set(seen.get_table_names())
            there = {t: {c["name"] for c in seen.get_columns(t)} for t in names & tables.metadata.tables.keys()}
        if names.isdisjoint(tables.metadata.tables) or len(there) < len(tables.metadata.tables):
            tables.metadata.create_all(self._engine)
        for table in tables.metadata.sorted_tables:
            for column in table.columns if table.name in there else ():
                if column.name not in there[table.name]:
                    self._add(column)
        if self._sqlite:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(f"PRAGMA user_version = {tables.VERSION}")

    def _is_complete(self) -> bool:
        if not self._sqlite:
            return False
        with self._reader.connect() as connection:
            return connection.exec_driver_sql("PRAGMA user_version").scalar() == tables.VERSION

    def _add(self, column: sa.Column[Any]) -> None:
        kind = column.type.compile(self._engine.dialect)
        given = getattr(column.default, "arg", None)
        default = "" if given is None else f" DEFAULT {given!r}"
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}{default}")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
        self._reader.dispose()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction that holds the write lock from its beginning."""
        with self._patiently(self._begin) as connection:
            yield connection
            connection.commit()
        self.writes += 1

    def _begin(self) -> sa.Connection:
        connection = self._engine.connect()
        try:
            connection.begin()
        except BaseException:
            connection.close()
            raise
        return connection

    def read(self, query: sa.Select[Any], values: Mapping[str, object] | None = None) -> Sequence[sa.RowMapping]:
        """What a query finds; `values` are those of its parameters."""

        def found() -> Sequence[sa.RowMapping]:
            with self._reader.connect() as connection:
                return connection.execute(query, values or {}).mappings().all()

        return self._patiently(found)

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call until the database is free. DatabaseBusy: it was not for `patience_s`."""
        give_up = time.monotonic() + self.patience_s
        while True:
            try:
                return call()
            except sa.exc.OperationalError as error:
                if not is_busy(error):
                    raise
                if time.monotonic() >= give_up:
                    raise _held(self.where) from error

    def charge(self, machine: str, run: str, phase: str, moment: float) -> None:
        """From that moment this phase pays for the machine, and whoever did before does no more. Idempotent."""
        charges = tables.charges
        open_ones = [charges.c.machine == machine, charges.c.until.is_(None)]
        with self.transaction() as connection:
            others = [*open_ones, charges.c.phase != phase]
            connection.execute(sa.update(charges).where(*others).values(until=moment))
            if connection.execute(sa.select(charges.c.phase).where(*open_ones)).first() is None:
                row = kinds.ChargeRow(machine=machine, run=run, phase=phase, since=moment)
                self.charges.put_in(connection, row)

    def _upsert(self, table: sa.Table, values: dict[str, Any]) -> Any:
        dialect: Any = sqlite if self._sqlite else postgresql
        keys = [c.name for c in table.primary_key]
        insert = dialect.insert(table).values(**values)
        rest = {name: insert.excluded[name] for name in values if name not in keys}
        if not rest:
            return insert.on_conflict_do_nothing(index_elements=keys)
        return insert.on_conflict_do_update(index_elements=keys, set_=rest)

    def gone(self, machine: str, reason: str, state: MachineState, at: float | None = None) -> None:
        """The machine has ended (DESTROYED or LOST), and nobody pays for it from then on. `at` None: now."""
        ended, key, charges = at or self.now(), {"name": machine}, tables.charges
        values: dict[str, object] = {"gone_at": ended} | ({"reason": reason} if reason else {})
        with self.transaction() as connection:
            old = self.machines.state_in(connection, key)
            if old is not None and (may_move(old, state) or may_move(old, MachineState.DESTROYING)):
                self.machines.write_in(connection, key, state, values)
            unpaid = [charges.c.machine == machine, charges.c.until.is_(None)]
            connection.execute(sa.update(charges).where(*unpaid).values(until=ended))

    def event(self, run: str, text: str) -> None:
        """Note something that a person may want to read later."""
        with self.transaction() as connection:
            connection.execute(sa.insert(tables.events).values(run=run, at=self.now(), text=hide(text)))

    def newest_events(self, run: str, count: int) -> list[kinds.EventRow]:
        """The run's last events, oldest first."""
        events = tables.events
        newest = sa.select(events).where(events.c.run == run).order_by(events.c.id.desc()).limit(count)
        return [kinds.EventRow(**row) for row in reversed(self.read(newest))]

    def newest_run(self) -> str | None:
        """The id of the run that was created last; None: there is none."""
        found = self.read(sa.select(tables.runs.c.id).order_by(tables.runs.c.created_at.desc()).limit(1))
        return str(found[0]["id"]) if found else None


def is_busy(error: BaseException) -> bool:
    """Whether a database error says that another process holds the file."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0)
    return int(code) & 0xFF == sqlite3.SQLITE_BUSY


def _held(where: str) -> DatabaseBusy:
    return DatabaseBusy(
        f"the database is held by another process: {where}",
        remedy="a backup, a viewer or a synced folder: end it, and say this again",
    )


def _no_implicit_begin(dbapi: Any, _record: Any) -> None:
    dbapi.isolation_level = None


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
