"""`dllama api`: the model over HTTP, for OpenAI's clients."""

import argparse
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from dllama_glm.cli.chat import template_variables
from dllama_glm.cli.options import existing
from dllama_glm.cli.session import Session, open_session
from dllama_glm.runtime.errors import DllamaError, UsageError

if TYPE_CHECKING:
    from uvicorn import Server

    from dllama_glm.api.engine import Engine

SHUTDOWN_SECONDS = 3  # that open responses get to end


def run(options: argparse.Namespace) -> None:
    """Serve until a signal ends it."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise DllamaError(f"The API needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    options.api_key = options.api_key or os.environ.get("DLLAMA_API_KEY") or None
    existing(options.model, "model")
    with _listening(options) as listener, open_session(options) as session:
        _serve(options, session, listener)


def _serve(options: argparse.Namespace, session: Session, listener: socket.socket) -> None:
    from uvicorn import Config, Server

    from dllama_glm.api.app import application
    from dllama_glm.api.asks import Asks
    from dllama_glm.api.engine import Engine

    engine = Engine(session, options.queue)
    asks = Asks(session, options, template_variables(options, session))
    app = application(options.model.stem, asks, engine, options.api_key)
    config = Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = Server(config)
    thread = threading.Thread(target=_run_server, args=[server, listener, engine], daemon=True)
    host, port = listener.getsockname()[:2]
    with _ending_at_signals(server):
        thread.start()
        print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        engine.compute()
        thread.join()


def _run_server(server: "Server", listener: socket.socket, engine: "Engine") -> None:
    try:
        server.run(sockets=[listener])
    finally:
        engine.close()


@contextmanager
def _ending_at_signals(server: "Server") -> Iterator[None]:
    """Let SIGINT and SIGTERM end the server; a second one does not wait for open responses."""

    def end(_signal: int, _frame: Any) -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _listening(options: argparse.Namespace) -> Iterator[socket.socket]:
    """Bind the address; beyond loopback only where an API key keeps strangers out."""
    where = f"{options.host}:{options.http_port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.http_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise UsageError(f"--host {options.host} is no address of this machine.") from None
    if not ip_address(str(address[0]).partition("%")[0]).is_loopback and options.api_key is None:
        raise UsageError(
            f"--host {options.host} can be reached from other machines: give an --api-key (or $DLLAMA_API_KEY), "
            "or stay on loopback and come through ssh -L."
        )
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen()  # who comes while the model is loaded waits
        except OSError as error:
            raise DllamaError(f"Cannot listen on {where}: {error.strerror}.") from None
        yield listener
