"""Reading and writing the ledger. Every write is one IMMEDIATE transaction: nothing is read, decided and lost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.ledger import rows as kinds
from orchestrator.ledger import tables
from orchestrator.ledger.book import TOLD, Access, Book, StateBook
from orchestrator.words.errors import GpuplanError
from orchestrator.words.lifecycle import AnyState, MachineState, PhaseState, RunState, StepState, VolumeState, may_move
from orchestrator.words.secret import hide

Row = Mapping[str, Any]


_STATES: dict[str, type[AnyState]] = {
    "gpuplan_machines": MachineState,
    "gpuplan_volumes": VolumeState,
    "gpuplan_phases": PhaseState,
    "gpuplan_runs": RunState,
    "gpuplan_steps": StepState,
}


def open_ledger(home: Path, url: str | None = None, now: Callable[[], float] = time.time) -> Ledger:
    """Open (and make, when it is not there) the ledger of this GPUPLAN_HOME, or the one at a database URL.

    `now`: see Ledger.
    """
    if url:
        return Ledger(url, now)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = home / "gpuplan.db"
    if not file.exists():
        file.touch(mode=0o600)
    with sqlite3.connect(file, timeout=30) as plain:
        plain.execute("pragma journal_mode=wal")  # a property of the file: 4 ms a durable step instead of 23
    return Ledger(f"sqlite:///{file}", now)


@cache
def _compiled(sqlite: bool) -> dict[object, object]:  # noqa: FBT001  one for each of two dialects
    del sqlite
    return {}


class Ledger:
    """Typed access to the tables; rows are mappings from column to value."""

    def __init__(self, url: str, now: Callable[[], float] = time.time) -> None:
        """`now`: Unix seconds that go on evenly; all times in the ledger are of this one line."""
        self.url, self.now = url, now
        self.writes = 0  # transactions of this process so far: who shows the ledger need not read it to see a change
        self._sqlite = url.startswith("sqlite")
        arguments: dict[str, Any] = {"timeout": 30} if self._sqlite else {}
        # Reads take no write lock. Compiled statements are shared: a process opens its ledger more than once.
        self._engine, self._reader = (
            sa.create_engine(url, connect_args=arguments).execution_options(compiled_cache=_compiled(self._sqlite))
            for _ in range(2)
        )
        if self._sqlite:
            sa.event.listen(self._engine, "connect", _no_implicit_begin)
            sa.event.listen(self._engine, "begin", _begin_immediate)
        self._make_tables()
        access = Access(self.transaction, self._reader.connect, self._upsert)
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

    def _make_tables(self) -> None:
        """Make what is missing; a file that was found complete before says so by its version (SQLite only)."""
        if not self._sqlite:
            tables.metadata.create_all(self._engine)
            self._add_missing_columns()
            return
        with self._reader.connect() as connection:
            if connection.exec_driver_sql("PRAGMA user_version").scalar() == tables.VERSION:
                return
        tables.metadata.create_all(self._engine)
        self._add_missing_columns()
        with self.transaction() as connection:
            connection.exec_driver_sql(f"PRAGMA user_version = {tables.VERSION}")

    def _add_missing_columns(self) -> None:
        """A ledger that an older version made gets the columns that came later, with their defaults."""
        with self._reader.connect() as connection:
            seen = sa.inspect(connection)
            there = {t.name: {c["name"] for c in seen.get_columns(t.name)} for t in tables.metadata.sorted_tables}
        missing = [c for t in tables.metadata.sorted_tables for c in t.columns if c.name not in there[t.name]]
        for column in missing:
            kind = column.type.compile(self._engine.dialect)
            given = getattr(column.default, "arg", None)
            default = "" if given is None else f" DEFAULT {given!r}"
            with self.transaction() as connection:
                connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}{default}")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
        self._reader.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction that holds the write lock from its beginning."""
        with self._engine.begin() as connection:
            yield connection
        self.writes += 1

    def put(self, table: sa.Table, **values: Any) -> None:
        """Insert the row, or update those columns of the row with the same key."""
        self.put_all([(table, values)])

    def put_all(self, rows: list[tuple[sa.Table, dict[str, Any]]]) -> None:
        """Put several rows: all of them, or after a crash none."""
        with self.transaction() as connection:
            for table, values in rows:
                connection.execute(self._upsert(table, values))

    def charge(self, machine: str, run: str, phase: str, moment: float) -> None:
        """From that moment this phase pays for the machine, and whoever did before does no more. Idempotent."""
        charges = tables.charges
        open_ones = [charges.c.machine == machine, charges.c.until.is_(None)]
        with self.transaction() as connection:
            others = [*open_ones, charges.c.phase != phase]
            connection.execute(sa.update(charges).where(*others).values(until=moment))
            if connection.execute(sa.select(charges.c.phase).where(*open_ones)).first() is None:
                values = {"machine": machine, "run": run, "phase": phase, "since": moment, "until": None}
                connection.execute(self._upsert(charges, values))

    def _upsert(self, table: sa.Table, values: dict[str, Any]) -> Any:
        dialect: Any = sqlite if self._sqlite else postgresql
        keys = [c.name for c in table.primary_key]
        insert = dialect.insert(table).values(**_hidden(values))
        rest = {name: insert.excluded[name] for name in values if name not in keys}
        if not rest:
            return insert.on_conflict_do_nothing(index_elements=keys)
        return insert.on_conflict_do_update(index_elements=keys, set_=rest)

    def change(self, table: sa.Table, key: Mapping[str, Any], **values: Any) -> int:
        """Update the rows that match `key`; return how many."""
        with self.transaction() as connection:
            return connection.execute(sa.update(table).where(*_where(table, key)).values(**_hidden(values))).rowcount

    def remove(self, table: sa.Table, **key: Any) -> int:
        """Delete the rows that match `key`; return how many."""
        with self.transaction() as connection:
            return connection.execute(sa.delete(table).where(*_where(table, key))).rowcount

    def move(self, table: sa.Table, key: Mapping[str, Any], state: AnyState, **values: Any) -> bool:
        """Move one row to a state if the table of transitions lets it; False: it may not (or is not there)."""
        with self.transaction() as connection:
            return self._moved(connection, table, key, state, values)

    def _moved(
        self,
        connection: sa.Connection,
        table: sa.Table,
        key: Mapping[str, Any],
        state: AnyState,
        values: dict[str, Any],
    ) -> bool:
        old = connection.execute(sa.select(table.c.state).where(*_where(table, key))).scalar()
        if not old or not may_move(_STATES[table.name](old), state):
            return False
        changed = {**_hidden(values), "state": str(state)}
        connection.execute(sa.update(table).where(*_where(table, key)).values(**changed))
        return True

    def gone(self, machine: str, reason: str, state: MachineState, at: float | None = None) -> None:
        """The machine has ended (DESTROYED or LOST), and nobody pays for it from then on. `at` None: now."""
        ended = at or self.now()
        values: dict[str, Any] = {"gone_at": ended} | ({"reason": reason} if reason else {})
        key, open_charge = {"name": machine}, {"machine": machine, "until": None}
        with self.transaction() as connection:
            if not self._moved(connection, tables.machines, key, state, values):
                self._moved(connection, tables.machines, key, MachineState.DESTROYING, {})
                self._moved(connection, tables.machines, key, state, values)
            charges = tables.charges
            connection.execute(sa.update(charges).where(*_where(charges, open_charge)).values(until=ended))

    def one(self, table: sa.Table, **key: Any) -> Row:
        """Return the row of that key; GpuplanError if there is none."""
        found = self.maybe(table, **key)
        if found is None:
            raise GpuplanError(f"the ledger has no {table.name.removeprefix('gpuplan_')} {key}")
        return found

    def maybe(self, table: sa.Table, **key: Any) -> Row | None:
        """Return the row of that key, or None."""
        rows = self.all(table, **key)
        return rows[0] if rows else None

    def all(self, table: sa.Table, **key: Any) -> list[Row]:
        """All rows that match, in the order of their position or birth."""
        order = [table.c[name] for name in ("position", "requested_at", "created_at", "since", "id") if name in table.c]
        with self._reader.connect() as connection:
            found = connection.execute(sa.select(table).where(*_where(table, key)).order_by(*order))
            return [dict(row._mapping) for row in found]  # noqa: SLF001  SQLAlchemy's public name for a row as a mapping

    def event(self, run: str, text: str) -> None:
        """Note something that a person may want to read later."""
        with self.transaction() as connection:
            connection.execute(sa.insert(tables.events).values(run=run, at=self.now(), text=hide(text)))

    def newest_events(self, run: str, count: int) -> list[Row]:
        """The run's last events, oldest first."""
        events = tables.events
        newest = sa.select(events).where(events.c.run == run).order_by(events.c.id.desc()).limit(count)
        with self._reader.connect() as connection:
            rows: list[Row] = [dict(row._mapping) for row in connection.execute(newest)]  # noqa: SLF001  as in `all`
        return rows[::-1]

    def newest_run(self) -> str | None:
        """The id of the run that was created last; None: there is none."""
        with self._reader.connect() as connection:
            return connection.execute(sa.select(tables.runs.c.id).order_by(tables.runs.c.created_at.desc())).scalar()


def _hidden(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: hide(value) if name in TOLD and isinstance(value, str) else value for name, value in values.items()}


def _where(table: sa.Table, key: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in key.items()]


def _no_implicit_begin(dbapi: Any, _record: Any) -> None:
    dbapi.isolation_level = None


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
