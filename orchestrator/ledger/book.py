"""One table of the ledger with typed rows. Every write is one IMMEDIATE transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from types import NoneType
from typing import Any, Generic, Protocol, TypeVar, get_args, get_type_hints

from orchestrator.ledger import sql
from orchestrator.ledger.database import Connection
from orchestrator.ledger.rows import MachineRow, PhaseRow, RunRow, StepRow, VolumeRow
from orchestrator.ledger.tables import Table
from orchestrator.words.errors import GpuplanError
from orchestrator.words.lifecycle import AnyState, IllegalMove, may_move
from orchestrator.words.secret import hide

T = TypeVar("T")
Row = TypeVar("Row")
Moving = TypeVar("Moving", MachineRow, VolumeRow, PhaseRow, RunRow, StepRow)
TOLD = frozenset({"error", "reason", "stop", "detail", "text"})  # columns of words, which may quote a secret


class Write(Protocol):
    """What a ledger writes by."""

    def __call__(self, body: Callable[[Connection], T], /) -> T:
        """See Ledger.write."""


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """How a book reaches its database: writes that hold its lock, and reads that take none."""

    write: Write
    read: Callable[[str, Mapping[str, object]], Sequence[Sequence[Any]]]
    ordered: bool = True  # see sql.select


class Book(Generic[Row]):
    """The rows of one table."""

    def __init__(self, access: Access, table: Table, kind: type[Row]) -> None:
        self._access, self.table, self._kind = access, table, kind
        self._casts = _casts(kind)
        self._read = _places(table, kind)

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
        wanted = tuple((name, value is None) for name, value in values.items())
        query = sql.select(self.table, wanted, ordered=self._access.ordered)
        return [self._row(row) for row in self._access.read(query, values)]

    def put(self, row: Row) -> None:
        """Insert the row, or replace the one with the same key."""
        self._access.write(lambda connection: self.put_in(connection, row))

    def put_in(self, connection: Connection, row: Row) -> None:
        """`put` within a transaction that is under way."""
        given = _written({name: getattr(row, name) for name in self._casts})
        if self.table.numbered:
            given = {name: value for name, value in given.items() if name not in self.table.keys}
        values = {c.name: c.default for c in self.table.columns if c.name not in self._casts} | given
        connection.execute(sql.put(self.table, tuple(values), tuple(given)), values)

    def change(self, key: Mapping[str, object], **values: object) -> int:
        """Change columns of the rows that match; return how many rows those were."""
        return self._access.write(lambda connection: self._change_in(connection, key, values))

    def remove(self, **where: object) -> int:
        """Delete the rows that match; return how many."""
        statement = sql.delete(self.table, tuple(where))
        return self._access.write(lambda connection: connection.execute(statement, _keyed(where)).rowcount)

    def _change_in(self, connection: Connection, key: Mapping[str, object], values: Mapping[str, object]) -> int:
        statement = sql.update(self.table, tuple(key), tuple(values))
        return connection.execute(statement, _keyed(key) | _written(values)).rowcount

    def _row(self, found: Sequence[Any]) -> Row:
        return self._kind(**{name: cast(found[place]) for place, name, cast in self._read})


class StateBook(Book[Moving]):
    """Rows with a state, which changes by the table of their kind alone."""

    def move(self, key: Mapping[str, object], state: AnyState, **values: object) -> None:
        """Move one row to a state, with other columns. IllegalMove: that state may not follow, or there is no row."""
        done, old = self._move(key, state, values)
        if not done:
            raise IllegalMove(f"{self.table.name.removeprefix('gpuplan_')} {dict(key)} is {old}, not {state}")

    def try_move(self, key: Mapping[str, object], state: AnyState, **values: object) -> bool:
        """The same where another process may have been first; False: the row stays as it is."""
        return self._move(key, state, values)[0]

    def _move(self, key: Mapping[str, object], state: AnyState, values: Mapping[str, object]) -> tuple[bool, Any]:
        """Whether it was moved, and its state before."""

        def moves(connection: Connection) -> tuple[bool, Any]:
            old = self.state_in(connection, key)
            done = old is not None and may_move(old, state)
            if done:
                self.write_in(connection, key, state, values)
            return done, old

        return self._access.write(moves)

    def state_in(self, connection: Connection, key: Mapping[str, object]) -> Any:
        """The row's state, of its kind; None: there is no row."""
        found = connection.execute(sql.select_state(self.table, tuple(key)), _keyed(key)).fetchall()
        return self._casts["state"](found[0][0]) if found else None

    def write_in(
        self, connection: Connection, key: Mapping[str, object], state: AnyState, values: Mapping[str, object]
    ) -> None:
        """Write a state that was found to be allowed."""
        self._change_in(connection, key, {"state": state, **values})


def _keyed(key: Mapping[str, object]) -> dict[str, object]:
    """The parameters that find the rows of a write."""
    return {f"{sql.KEYED}{name}": _plain(value) for name, value in key.items()}


def _written(values: Mapping[str, object]) -> dict[str, object]:
    """What a row's values become in the database: no secret is among them."""
    return {n: hide(v) if n in TOLD and isinstance(v, str) else _plain(v) for n, v in values.items()}


def _plain(value: object) -> object:
    """How a value lies in the database."""
    if isinstance(value, bool):
        return int(value)
    return str(value) if isinstance(value, StrEnum | Decimal) else value


_CASTS: dict[type, Mapping[str, Callable[[Any], Any]]] = {}
_PLACES: dict[tuple[Table, type], Sequence[tuple[int, str, Callable[[Any], Any]]]] = {}


def _casts(kind: type) -> Mapping[str, Callable[[Any], Any]]:
    """For each field of a row, what makes its value of the database's; worked out once."""
    if kind not in _CASTS:
        _CASTS[kind] = {name: _cast(hint) for name, hint in get_type_hints(kind).items()}
    return _CASTS[kind]


def _places(table: Table, kind: type) -> Sequence[tuple[int, str, Callable[[Any], Any]]]:
    """For each field of a row, at which place of what is selected it comes, and its cast; likewise."""
    if (table, kind) not in _PLACES:
        casts = _casts(kind)
        _PLACES[table, kind] = [(n, c.name, casts[c.name]) for n, c in enumerate(table.columns) if c.name in casts]
    return _PLACES[table, kind]


def _cast(hint: Any) -> Callable[[Any], Any]:
    """From the database's value to the row's; what may be None stays None."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    kind = kinds[0]
    if len(get_args(hint)) > len(kinds):
        return lambda value: None if value is None else kind(value)
    return lambda value: kind() if value is None else kind(value)  # a column that came later than the row
