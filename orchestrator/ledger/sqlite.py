"""The ledger in a SQLite file, by the standard library alone: reading it costs a command no import."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.ledger import sql
from orchestrator.ledger.database import Busy, Connection, DatabaseFailed, is_busy
from orchestrator.ledger.tables import TABLES, Table

HELD_BY = "a backup, a viewer or a synced folder: end it, and say this again"


class SqliteFile:
    """See database.Database. `wait_s`: real seconds that each call waits for the lock; connections are kept."""

    numbered = "INTEGER NOT NULL"
    kinds: Mapping[str, str] = {kind: kind for kind in ("TEXT", "INTEGER", "FLOAT")}
    tables: Sequence[Table] = TABLES
    ordered = True
    held = "the database is held by another process: {where}", HELD_BY

    def __init__(self, file: str, wait_s: float) -> None:
        self.where, self._wait_s = file, wait_s
        self._free: list[sqlite3.Connection] = []  # taken and given back by one operation each: threads share it

    def read(self, statement: str, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """See database.Database."""
        with self._connection() as connection:
            found: Sequence[Sequence[Any]] = connection.execute(statement, values).fetchall()
            return found

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """See database.Database."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE", {})
            try:
                yield connection
                connection.execute("COMMIT", {})
            except BaseException:
                with contextlib.suppress(DatabaseFailed):  # some failures have undone it already
                    connection.execute("ROLLBACK", {})
                raise

    def columns(self, table: str) -> Mapping[str, bool]:
        """See database.Database."""
        return {str(row[1]): bool(row[3]) for row in self.read(f'PRAGMA table_info("{table}")', {})}

    def relax(self, table: Table, columns: Sequence[str]) -> Sequence[str]:
        """See database.Database. SQLite takes no NOT NULL back: the table is made anew, with its rows."""
        del columns
        return sql.remake(table, self.numbered, self.kinds)

    def version(self) -> int | None:
        """See database.Database."""
        return int(self.read("PRAGMA user_version", {})[0][0])

    def note_version(self, version: int) -> None:
        """See database.Database."""
        self.read(f"PRAGMA user_version = {version}", {})

    def close(self) -> None:
        """See database.Database."""
        while self._free:
            self._free.pop().close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[_Translated]:
        try:
            plain = self._free.pop()
        except IndexError:
            plain = self._connect()
        try:
            yield _Translated(plain)
        finally:
            self._free.append(plain)

    def _connect(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(self.where, self._wait_s, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _ours(error) from error


class _Translated:
    """A connection whose errors are ours."""

    def __init__(self, plain: sqlite3.Connection) -> None:
        self._plain = plain

    def execute(self, statement: str, values: Mapping[str, Any], /) -> sqlite3.Cursor:
        try:
            return self._plain.execute(statement, values)
        except sqlite3.Error as error:
            raise _ours(error) from error


def _ours(error: sqlite3.Error) -> DatabaseFailed:
    return (Busy if is_busy(error) else DatabaseFailed)(str(error))
