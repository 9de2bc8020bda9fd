"""Every change that outlives a process, said in the moment in which it has happened: there a process can die.

Such changes are made in the ledger, in the workflows' records, at the clouds, on machines and in stores.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping

import httpx

from orchestrator.ledger import Ledger
from orchestrator.ledger.database import Connection, Database, Found
from orchestrator.ledger.sqlite import SqliteFile

WRITES = re.compile(r'(?:INSERT(?: OR REPLACE)? INTO|UPDATE|DELETE FROM) "?gpuplan_(\w+)')
WORDS = frozenset({"events", "transfers"})  # tables that nothing is decided by
GRAPHQL = "/graphql"  # where everything is a POST
Changed = Callable[[str], None]  # is told where something has changed


class Watchers:
    """Who is told: of each change, and of each request to the clouds before it is sent. They may change at any time."""

    def __init__(self) -> None:
        self.changed: Changed = lambda _where: None
        self.asking: Callable[[], None] = lambda: None

    def tell(self, where: str) -> None:
        """Something has changed there."""
        self.changed(where)

    def ask(self) -> None:
        """A request is about to be sent."""
        self.asking()


class WatchedLedger(Ledger):
    """A ledger that says when it was written to."""

    def __init__(self, url: str, now: Callable[[], float], changed: Changed) -> None:
        """`changed` hears of each transaction, once its lock is free again; of mere words about the run it does not."""
        self._changed: Changed = lambda _where: None  # making the tables is nobody's change
        super().__init__(url, now)
        self._changed = changed

    def _open(self, url: str, wait_s: float) -> Database:
        return _Unsynced(url.removeprefix("sqlite:///"), wait_s)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """See Ledger."""
        with super().transaction() as connection:
            noted = _Noted(connection)
            yield noted
        if noted.tables:
            self._changed(f"ledger: {', '.join(sorted(noted.tables))}")


class _Unsynced(SqliteFile):
    """A file that waits for no disk, and that keeps in memory what undoes a transaction.

    On the bench a process dies between two transactions alone, and the computer under it never does.
    """

    def _connect(self) -> sqlite3.Connection:
        plain = super()._connect()
        plain.execute("PRAGMA synchronous = OFF")
        plain.execute("PRAGMA journal_mode = MEMORY")
        return plain


class _Noted:
    """A connection that remembers which tables it has written."""

    def __init__(self, inner: Connection) -> None:
        self._inner, self.tables = inner, set[str]()

    def execute(self, statement: str, values: Mapping[str, object], /) -> Found:
        """See ledger.database.Connection."""
        if (table := WRITES.match(statement)) and table[1] not in WORDS:
            self.tables.add(table[1])
        return self._inner.execute(statement, values)


class Wire(httpx.BaseTransport):
    """An adapter's way to the clouds. Whoever dies in being told of a request's change has never seen the answer."""

    def __init__(self, inner: httpx.BaseTransport, watchers: Watchers) -> None:
        self._inner, self._watchers = inner, watchers

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.BaseTransport."""
        self._watchers.ask()
        response = self._inner.handle_request(request)
        if request.method != "GET" and (GRAPHQL not in request.url.path or b"mutation" in request.read()):
            self._watchers.tell(f"{request.method} {request.url.path.rpartition('/')[2]}")
        return response
