"""A dashboard over real HTTP, in this process, of a home whose runs were made in memory."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import uvicorn

from orchestrator.cli.dashboard.app import Dashboard
from orchestrator.cli.dashboard.guard import Guard
from orchestrator.cli.dashboard.server import configuration
from orchestrator.ledger import Ledger
from orchestrator.world.home import Home


@dataclass(frozen=True, slots=True)
class Served:
    """Where it is, and the link that opens it."""

    url: str
    link: str

    def client(self, **headers: str) -> httpx.Client:
        """Somebody with a cookie jar, who has not come in yet."""
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=20)

    def guest(self) -> httpx.Client:
        """Somebody who has come in by the link."""
        client = self.client()
        assert client.get(self.link).status_code == 303
        return client


@contextlib.contextmanager
def serving(home: Home, ledger: Ledger) -> Iterator[Served]:
    """Serve it on a port of its own."""
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    door.listen()
    port = door.getsockname()[1]
    stop = threading.Event()
    guard = Guard(Dashboard(home, ledger, stop.is_set).application(), port)
    server = uvicorn.Server(configuration(guard))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield Served(f"http://127.0.0.1:{port}", guard.link)
    finally:
        stop.set()
        server.should_exit = True
        thread.join(10)
        door.close()
