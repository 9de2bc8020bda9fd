"""Who drives a run, where several computers share a database: a lock of the server's, held by an open connection.

It is let go with the connection, however the process that holds it ends; where its whole computer is gone, or the
network before it, the server notices within postgres.GONE_S.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator

import sqlalchemy as sa

from orchestrator.ledger.postgres import connected, is_away
from orchestrator.words.errors import DatabaseBusy

_TAKE = sa.text("SELECT pg_try_advisory_lock(:key)")
_LET_GO = sa.text("SELECT pg_advisory_unlock(:key)")
_HELD = sa.text(
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND (classid::bigint << 32) | objid::bigint = :key"
)


class RunLocks:
    """The locks of all runs of one database."""

    def __init__(self, url: str) -> None:
        self._engine = connected(url).execution_options(isolation_level="AUTOCOMMIT")

    def is_held(self, run: str) -> bool:
        """Whether a living process drives the run. DatabaseBusy: the server does not answer."""
        with self._told(), self._engine.connect() as connection:
            return connection.execute(_HELD, {"key": _key(run)}).first() is not None

    def take(self, run: str) -> Hold | None:
        """The run, for this process; None: another one drives it. DatabaseBusy: the server does not answer."""
        hold = Hold(self._engine, _key(run))
        with self._told():
            return hold if hold.take() else None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            raise DatabaseBusy(
                f"the database does not answer: {self._engine.url.render_as_string()}",
                remedy="see that the server runs and can be reached, and say this again",
            ) from error


class Hold:
    """A run that is held by this process."""

    def __init__(self, engine: sa.Engine, key: int) -> None:
        self._engine, self._key = engine, key
        self._connection: sa.Connection | None = None
        self._alone = threading.Lock()

    def take(self) -> bool:
        """Whether it is this process's now."""
        connection = self._engine.connect()
        if connection.execute(_TAKE, {"key": self._key}).scalar():
            self._connection = connection
            return True
        connection.close()
        return False

    def holds(self) -> bool:
        """Whether it still is: taken anew where the connection broke. A server that is away says nothing: True."""
        with self._alone:
            try:
                if self._connection is not None:
                    self._connection.execute(sa.text("SELECT 1"))
                    return True
                return self.take()
            except sa.exc.SQLAlchemyError as error:
                if not is_away(error):
                    raise
                self._drop()
                return True

    def let_go(self) -> None:
        """Whoever wants it may have it."""
        with self._alone:
            if self._connection is not None:  # said, for the server sees a connection's end a moment later
                with contextlib.suppress(sa.exc.SQLAlchemyError):
                    self._connection.execute(_LET_GO, {"key": self._key})
            self._drop()

    def _drop(self) -> None:
        """End the connection itself: one that goes back among the others would go on holding it."""
        if self._connection is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                self._connection.invalidate()
                self._connection.close()
            self._connection = None


def _key(run: str) -> int:
    """The number of a run's lock: 63 bits, of which no two runs share all."""
    return int.from_bytes(hashlib.sha256(f"gpuplan run {run}".encode()).digest()[:8]) >> 1
