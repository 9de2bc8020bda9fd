"""One table of the ledger with typed rows. Every write is one IMMEDIATE transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from enum import StrEnum
from types import NoneType
from typing import Any, Generic, TypeVar, get_args, get_type_hints

import sqlalchemy as sa

from orchestrator.ledger.rows import MachineRow, PhaseRow, RunRow, StepRow, VolumeRow
from orchestrator.words.errors import GpuplanError
from orchestrator.words.lifecycle import AnyState, IllegalMove, may_move
from orchestrator.words.secret import hide

Row = TypeVar("Row")
Moving = TypeVar("Moving", MachineRow, VolumeRow, PhaseRow, RunRow, StepRow)
TOLD = frozenset({"error", "reason", "stop", "detail", "text"})  # columns of words, which may quote a secret
ORDER = ("position", "requested_at", "created_at", "since", "id")  # rows come by the first of these that they have


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """How a book reaches its database: a transaction that holds the write lock, and reads that take none."""

    transaction: Callable[[], AbstractContextManager[sa.Connection]]
    read: Callable[[sa.Select[Any], Mapping[str, object]], Sequence[sa.RowMapping]]
    upsert: Callable[[sa.Table, dict[str, Any]], Any]


class Book(Generic[Row]):
    """The rows of one table."""

    def __init__(self, access: Access, table: sa.Table, kind: type[Row]) -> None:
        self._access, self.table, self._kind = access, table, kind
        self._queries: dict[tuple[tuple[str, bool], ...], sa.Select[Any]] = {}
        self._casts = _casts(kind)

    def get(self, **key: object) -> Row:
        """The row of that key. GpuplanError: there is none."""
        if (found := self.maybe(**key)) is None:
            raise GpuplanError(f"the ledger has no {self.table.name.removeprefix('gpuplan_')} {key}")
        return found

    def maybe(self, **key: object) -> Row | None:
        """The row of that key; None: there is none."""
        found = self.all(**key)
        return found[0] if found else None

    def all(self, **where: object) -> list[Row]:
        """All rows that match, in the order of their position or birth."""
        values = {name: _plain(value) for name, value in where.items()}
        query = self._query(tuple((name, value is None) for name, value in values.items()))
        found = self._access.read(query, {n: v for n, v in values.items() if v is not None})
        return [self._row(row) for row in found]

    def _query(self, names: tuple[tuple[str, bool], ...]) -> sa.Select[Any]:
        """The rows where these columns have a value (True: none at all); made once, for making it costs most."""
        if names not in self._queries:
            order = [self.table.c[name] for name in ORDER if name in self.table.c]
            wanted = [self.table.c[n].is_(None) if none else self.table.c[n] == sa.bindparam(n) for n, none in names]
            self._queries[names] = sa.select(self.table).where(*wanted).order_by(*order)
        return self._queries[names]

    def put(self, row: Row) -> None:
        """Insert the row, or replace the one with the same key."""
        with self._access.transaction() as connection:
            self.put_in(connection, row)

    def put_in(self, connection: sa.Connection, row: Row) -> None:
        """`put` within a transaction that is under way."""
        values = _written({name: getattr(row, name) for name in self._casts})
        if values.get("id") == 0:  # numbered by the database
            del values["id"]
        connection.execute(self._access.upsert(self.table, values))

    def change(self, key: Mapping[str, object], **values: object) -> int:
        """Change columns of the rows that match; return how many rows those were."""
        with self._access.transaction() as connection:
            changed = sa.update(self.table).where(*self._where(key)).values(**_written(values))
            return connection.execute(changed).rowcount

    def remove(self, **where: object) -> int:
        """Delete the rows that match; return how many."""
        with self._access.transaction() as connection:
            return connection.execute(sa.delete(self.table).where(*self._where(where))).rowcount

    def _row(self, found: sa.RowMapping) -> Row:
        return self._kind(**{name: cast(found[name]) for name, cast in self._casts.items()})

    def _where(self, key: Mapping[str, object]) -> list[sa.ColumnElement[bool]]:
        return [self.table.c[name] == _plain(value) for name, value in key.items()]


class StateBook(Book[Moving]):
    """Rows with a state, which changes by the table of their kind alone."""

    def move(self, key: Mapping[str, object], state: AnyState, **values: object) -> None:
        """Move one row to a state, with other columns. IllegalMove: that state may not follow, or there is no row."""
        with self._access.transaction() as connection:
            old = self.state_in(connection, key)
            if old is None or not may_move(old, state):
                raise IllegalMove(f"{self.table.name.removeprefix('gpuplan_')} {dict(key)} is {old}, not {state}")
            self.write_in(connection, key, state, values)

    def try_move(self, key: Mapping[str, object], state: AnyState, **values: object) -> bool:
        """The same where another process may have been first; False: the row stays as it is."""
        with self._access.transaction() as connection:
            old = self.state_in(connection, key)
            if old is None or not may_move(old, state):
                return False
            self.write_in(connection, key, state, values)
            return True

    def state_in(self, connection: sa.Connection, key: Mapping[str, object]) -> Any:
        """The row's state, of its kind; None: there is no row."""
        found = connection.execute(sa.select(self.table.c.state).where(*self._where(key))).scalar()
        return None if found is None else self._casts["state"](found)

    def write_in(
        self, connection: sa.Connection, key: Mapping[str, object], state: AnyState, values: Mapping[str, object]
    ) -> None:
        """Write a state that was found to be allowed."""
        connection.execute(sa.update(self.table).where(*self._where(key)).values(state=str(state), **_written(values)))


def _written(values: Mapping[str, object]) -> dict[str, object]:
    """What a row's values become in the database: no secret is among them."""
    return {n: hide(v) if n in TOLD and isinstance(v, str) else _plain(v) for n, v in values.items()}


def _plain(value: object) -> object:
    """How a value lies in the database."""
    if isinstance(value, bool):
        return int(value)
    return str(value) if isinstance(value, StrEnum | Decimal) else value


_CASTS: dict[type, dict[str, Callable[[Any], Any]]] = {}


def _casts(kind: type) -> dict[str, Callable[[Any], Any]]:
    """For each field of a row, what makes its value of the database's; worked out once."""
    if kind not in _CASTS:
        _CASTS[kind] = {name: _cast(hint) for name, hint in get_type_hints(kind).items()}
    return _CASTS[kind]


def _cast(hint: Any) -> Callable[[Any], Any]:
    """From the database's value to the row's; what may be None stays None."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    kind = kinds[0]
    if len(get_args(hint)) > len(kinds):
        return lambda value: None if value is None else kind(value)
    return lambda value: kind() if value is None else kind(value)  # a column that came later than the row
