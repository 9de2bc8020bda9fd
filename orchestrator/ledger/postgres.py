"""The ledger on a server that several computers share, through SQLAlchemy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.ledger import sql
from orchestrator.ledger.database import Connection, DatabaseFailed
from orchestrator.ledger.tables import Table

_WRITE_LOCK = 0x67707570  # "gpup": one writer at a time, as with a file


class Server:
    """See database.Database. Writers wait for each other there: a statement is never Busy."""

    numbered = "BIGSERIAL"

    def __init__(self, url: str) -> None:
        with _translating():
            self._engine = sa.create_engine(url)
        self.where = self._engine.url.render_as_string()

    def read(self, statement: str, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """See database.Database."""
        with _translating(), self._engine.connect() as connection:
            return connection.execute(sa.text(statement), dict(values)).fetchall()

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """See database.Database."""
        with _translating(), self._engine.begin() as connection:
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})"))
            yield _Translated(connection)

    def columns(self, table: str) -> Mapping[str, bool]:
        """See database.Database."""
        asked = "SELECT column_name, is_nullable FROM information_schema.columns WHERE table_name = :name"
        return {str(name): nullable == "NO" for name, nullable in self.read(asked, {"name": table})}

    def relax(self, table: Table, columns: Sequence[str]) -> Sequence[str]:
        """See database.Database."""
        return sql.relax(table, columns)

    def version(self) -> int | None:
        """See database.Database."""
        return None

    def note_version(self, version: int) -> None:
        """See database.Database."""

    def close(self) -> None:
        """See database.Database."""
        self._engine.dispose()


class _Translated:
    def __init__(self, plain: sa.Connection) -> None:
        self._plain = plain

    def execute(self, statement: str, values: Mapping[str, object], /) -> sa.CursorResult[Any]:
        return self._plain.execute(sa.text(statement), dict(values))


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise DatabaseFailed(str(error.__cause__ or error)) from error
