"""The ledger on a server that several computers share, through SQLAlchemy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.ledger import sql
from orchestrator.ledger.database import Busy, Connection, Cut, DatabaseFailed
from orchestrator.ledger.tables import SHARED, Table

_WRITE_LOCK = 0x67707570  # "gpup": one writer at a time, as with a file
_LOCK = "SELECT set_config('lock_timeout', :patience, true), pg_advisory_xact_lock(:key)"
GONE_S = 25  # after which each side takes the other for gone when its computer or the network between them is
_SESSION = {
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": GONE_S * 1000,
    "idle_in_transaction_session_timeout": 60_000,  # a process that is stopped within a transaction holds nobody up
}


class Server:
    """See database.Database. `wait_s`: real seconds that each call waits for the lock."""

    numbered = "BIGSERIAL"
    kinds: Mapping[str, str] = {
        "TEXT": 'TEXT COLLATE "C"',  # in the order of its bytes, as in a file
        "INTEGER": "BIGINT",
        "FLOAT": "DOUBLE PRECISION",
        "BLOB": "BYTEA",
    }
    tables: Sequence[Table] = SHARED
    ordered = False
    held = "the database does not answer: {where}", "see that the server runs and can be reached, and say this again"

    def __init__(self, url: str, wait_s: float) -> None:
        with _translating():
            self._engine = connected(url)
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self.where, self._wait_ms = self._engine.url.render_as_string(), str(max(int(wait_s * 1000), 1))
        self._answered = False  # a server that never did is no busy one: its address is wrong, or the password

    def read(self, statement: str, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """See database.Database."""
        with self._asking(), self._reading.connect() as connection:
            return connection.execute(sa.text(statement), _clean(values)).fetchall()

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """See database.Database."""
        begun = False
        try:
            with contextlib.ExitStack() as block:
                with self._asking():
                    connection = block.enter_context(_translated(self._engine.begin()))
                    connection.execute(sa.text(_LOCK), {"patience": self._wait_ms, "key": _WRITE_LOCK})
                begun = True
                yield _Translated(connection)
        except DatabaseFailed as error:
            if begun and _is_cut(error.__cause__):
                raise Cut(str(error)) from error.__cause__
            raise

    def columns(self, table: str) -> Mapping[str, bool]:
        """See database.Database."""
        asked = (
            "SELECT column_name, is_nullable FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND table_name = :name"
        )
        return {str(name): nullable == "NO" for name, nullable in self.read(asked, {"name": table})}

    def relax(self, table: Table, columns: Sequence[str]) -> Sequence[str]:
        """See database.Database."""
        return sql.relax(table, columns)

    def version(self) -> int | None:
        """See database.Database: it is the comment on the first table."""
        found = self.read(f"SELECT obj_description(to_regclass('{SHARED[0].name}'))", {})[0][0]
        return int(found) if str(found).isdecimal() else None

    def note_version(self, version: int) -> None:
        """See database.Database."""
        with self.begin() as connection:
            connection.execute(f"COMMENT ON TABLE {SHARED[0].name} IS '{version}'", {})

    def close(self) -> None:
        """See database.Database."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """What can be asked again is Busy where the server, which has answered before, does not."""
        try:
            with _translating():
                yield
        except DatabaseFailed as error:
            if self._answered and is_away(error.__cause__):
                raise Busy(str(error)) from error.__cause__
            raise
        self._answered = True


def connected(url: str) -> sa.Engine:
    """The server's connections, each of which notices within GONE_S that the other side is gone."""
    asked = sa.make_url(url)
    settings = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    mine = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": GONE_S * 1000}
    options = f"{settings} {asked.query.get('options', '')}".strip()
    return sa.create_engine(asked, max_overflow=20, connect_args={"connect_timeout": 10, **mine, "options": options})


def is_away(error: BaseException | None) -> bool:
    """Whether the server could not be asked, or is held up: the same may work a moment later."""
    if isinstance(error, sa.exc.TimeoutError):
        return True
    return isinstance(error, sa.exc.OperationalError) or _is_cut(error)


def _is_cut(error: BaseException | None) -> bool:
    """Whether the connection is no more."""
    return bool(getattr(error, "connection_invalidated", False))


def _clean(values: Mapping[str, object]) -> dict[str, object]:
    """The values without the one character that the server's texts cannot hold."""
    return {n: v.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(v, str) else v for n, v in values.items()}


class _Translated:
    def __init__(self, plain: sa.Connection) -> None:
        self._plain = plain

    def execute(self, statement: str, values: Mapping[str, object], /) -> sa.CursorResult[Any]:
        with _translating():
            return self._plain.execute(sa.text(statement), _clean(values))


@contextlib.contextmanager
def _translated(block: contextlib.AbstractContextManager[sa.Connection]) -> Iterator[sa.Connection]:
    """The same block; what its begin and its commit raise is ours."""
    with _translating(), block as connection:
        yield connection


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise DatabaseFailed(str(error.__cause__ or error)) from error
