"""What the ledger asks of a database; an adapter a kind."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from orchestrator.ledger.tables import Table


class DatabaseFailed(Exception):
    """What the database said: a full disk, a damaged file, a server that does not answer."""


class Busy(DatabaseFailed):
    """Another process holds it: the same may work a moment later."""


class Cut(DatabaseFailed):
    """The connection was lost in the middle of a transaction, which was undone; or while it was committed: perhaps."""


class Found(Protocol):
    """What a statement found or did."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def fetchall(self) -> Sequence[Sequence[Any]]:
        """All rows, their values in the order in which the statement names them."""


class Connection(Protocol):
    """A transaction that holds the write lock."""

    def execute(self, statement: str, values: Mapping[str, object], /) -> Found:
        """Run one statement with its named parameters. DatabaseFailed: it cannot be."""


class Database(Protocol):
    """One database. Its methods raise Busy and DatabaseFailed."""

    where: str  # in words: its file, or its URL without the password
    numbered: str  # the kind of a key that it counts
    kinds: Mapping[str, str]  # what it calls the kinds of columns
    tables: Sequence[Table]  # that it is to have
    ordered: bool  # rows that are alike in what they are ordered by come in one and the same order
    held: tuple[str, str]  # what is said when it is Busy for long, and what to do

    def read(self, statement: str, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """What a statement finds, without the write lock."""

    def begin(self) -> AbstractContextManager[Connection]:
        """One transaction that holds the write lock from its beginning; undone where the block raises. May be Cut."""

    def columns(self, table: str) -> Mapping[str, bool]:
        """A table's columns, and whether each must have a value; empty: there is no such table."""

    def relax(self, table: Table, columns: Sequence[str]) -> Sequence[str]:
        """The statements after which these columns of it may have none."""

    def version(self) -> int | None:
        """What `note_version` wrote last; None: it cannot be kept here."""

    def note_version(self, version: int) -> None:
        """Keep a number with the database."""

    def close(self) -> None:
        """Close every connection."""


def is_busy(error: BaseException) -> bool:
    """Whether an error, of ours or of a library's, says that another process holds the file."""
    causes = (error, error.__cause__, getattr(error, "orig", None))
    return any(int(getattr(e, "sqlite_errorcode", 0)) & 0xFF == sqlite3.SQLITE_BUSY for e in causes)
