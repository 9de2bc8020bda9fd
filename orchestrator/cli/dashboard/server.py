"""The dashboard on this computer: a port of 127.0.0.1 that nobody else can reach, and the link that opens it once."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

from orchestrator.cli.dashboard.app import Dashboard
from orchestrator.cli.dashboard.guard import Guard
from orchestrator.words.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.world.home import Home


def serve(home: Home, ledger: Ledger, port: int, tell: Callable[[str], None]) -> None:
    """Serve until Ctrl-C. `port` 0: any that is free; `tell` is told the link. UsageError: the port is taken."""
    with contextlib.closing(_listen(port)) as door:
        servers: list[uvicorn.Server] = []
        dashboard = Dashboard(home, ledger, lambda: servers[0].should_exit)
        guard = Guard(dashboard.application(), door.getsockname()[1])
        servers.append(uvicorn.Server(configuration(guard)))
        tell(guard.link)
        with contextlib.suppress(KeyboardInterrupt):
            servers[0].run(sockets=[door])


def configuration(guard: Guard) -> uvicorn.Config:
    """How it is served: nothing is logged (an address has the link's token), nothing is said of the server."""
    return uvicorn.Config(
        guard,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=2,
    )


def _listen(port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(("127.0.0.1", port))
    except OSError as error:
        door.close()
        raise UsageError(
            f"port {port} cannot be opened: {error.strerror}", remedy="--port names another one"
        ) from error
    door.listen(64)
    return door
