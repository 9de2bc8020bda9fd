"""The control connection between the root and one worker: one JSON document a line.

Both ends prove that they hold the same token (GPUPLAN_TOKEN; empty without one) before anything else is said; the
token itself never travels.
"""

import hashlib
import hmac
import json
import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from dllama_glm.parallel import patience
from dllama_glm.runtime.errors import DllamaError

PROTOCOL = "dllama-glm/2"
MAX_LINE = 1 << 24
MAX_GREETING = 1 << 16  # what a stranger may make this end keep in memory
MAX_NONCE = 64
PIECE = 1 << 16
SEND = 10.0  # seconds for the other end to take a message
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # a host that vanishes is noticed in 20 s

Message = dict[str, Any]


class HandshakeError(DllamaError):
    """The other end is no fitting dllama, or does not hold the token."""


class Unanswered(HandshakeError):
    """The other end has said nothing at all, or not in time."""


class Channel:
    """A connected control socket; `peer` is the other end's address, `local` this end's.

    Both ends give signs of life with their `progress`; `progress_there` is the other end's as it was last heard.
    `silence` is how many seconds may pass without one (None: as many as it takes). Any thread may send messages, one at
    a time may receive them.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._trusted = False
        self._deadline: float | None = deadline
        self.silence: float | None = None
        self._sending = threading.Lock()
        self._closed = threading.Event()
        self.progress: Callable[[], int] = int
        self.progress_there = 0
        self.peer: str = "{}:{}".format(*connection.getpeername()[:2])
        self.local: str = connection.getsockname()[0]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):  # Linux has all three; elsewhere the system's own times hold
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        connection.settimeout(SEND)

    def send(self, message: Message) -> None:
        """Send one message; a connection that is gone raises OSError."""
        with self._sending:
            self._socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def tell(self, message: Message) -> None:
        """Send one message to an end that may have gone already: then nobody is left to be told."""
        with suppress(OSError):
            self.send(message)

    def receive(self) -> Message | None:
        """Return the next message, or None when the other end has closed the connection, or a line is too long.

        Raises ValueError for what is no JSON, TimeoutError for an end that is silent (`silence`, `wait_until`).
        """
        while True:
            line = self._line()
            if line is None:
                return None
            try:
                message = json.loads(line)
            except RecursionError:
                raise ValueError("nested too deep") from None
            if not isinstance(message, dict):
                raise HandshakeError(f"{self.peer} does not speak {PROTOCOL}.")
            if not (self._trusted and isinstance(message.get("alive"), int)):
                return message
            self.progress_there = message["alive"]

    def _line(self) -> bytes | None:
        deadline = self._deadline
        if self.silence is not None:
            deadline = min(time.monotonic() + self.silence, deadline or float("inf"))
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        searched, longest = 0, MAX_LINE if self._trusted else MAX_GREETING
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            left = None if deadline is None else max(0.0, 1000 * (deadline - time.monotonic()))
            if not poll.poll(left):  # asked once in any case: this end may have slept, and much has come since
                raise TimeoutError("timed out")
            data = self._socket.recv(PIECE)
            if not data or searched > longest:
                return None
            self._buffer += data
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def expect(self, key: str) -> Any:
        """Return the value of `key` of the next message; raise what the other end refuses with instead."""
        try:
            message = self.receive()
        except TimeoutError as error:
            raise Unanswered(f"{self.peer} has not answered in time: it hangs, or is no dllama.") from error
        except OSError as error:
            raise Unanswered(f"{self.peer} has hung up ({error}).") from error
        except ValueError as error:
            raise HandshakeError(f"{self.peer} does not answer as a dllama does ({error}).") from error
        if message is None:
            raise Unanswered(f"{self.peer} closed the connection.")
        if "refuse" in message:
            raise Refused(str(message["refuse"]))
        if message.get("do") == "end":
            raise Refused(f"The root ended: {message.get('error')}")
        if key not in message:
            raise HandshakeError(f"{self.peer} does not speak {PROTOCOL}.")
        return message[key]

    def trust(self) -> None:
        """Take long lines from now on, as long as the other end is alive, and give signs of life: it has proven itself.

        For as long as this end is open.
        """
        self._trusted = True
        self._deadline, self.silence = None, patience.LOADING
        threading.Thread(target=self._live, daemon=True).start()

    def _live(self) -> None:
        while not self._closed.wait(patience.BEAT):
            self.tell({"alive": self.progress()})

    def wait_until(self, seconds: float | None) -> None:
        """Give all that is received from now on so many seconds together."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def close(self) -> None:
        """Close the connection."""
        self._closed.set()
        self._socket.close()


class Refused(DllamaError):
    """The other end said no, in these words."""


def admit(connection: socket.socket, role: str, deadline: float | None = None) -> Channel:
    """Make a connection a channel whose other end has proven, before the deadline, that it holds the token.

    Otherwise the connection is closed, and HandshakeError, Refused or OSError raised.
    """
    latest = time.monotonic() + patience.HANDSHAKE
    with ExitStack() as stack:
        stack.callback(connection.close)
        channel = Channel(connection, latest if deadline is None else min(deadline, latest))
        stack.callback(channel.close)
        authenticate(channel, role)
        stack.pop_all()
    return channel


def authenticate(channel: Channel, role: str) -> None:
    """Greet the other end and make sure that both hold the same token. `role` is "root" or "worker"."""
    other_role = {"root": "worker", "worker": "root"}[role]
    nonce = secrets.token_hex(16)
    try:
        channel.send({"hello": PROTOCOL, "role": role, "nonce": nonce})
        hello = channel.receive()
    except TimeoutError as error:
        raise Unanswered(f"{channel.peer} has not answered in time: it hangs, or is no dllama.") from error
    except OSError as error:
        raise Unanswered(f"{channel.peer} has hung up ({error}).") from error
    except ValueError as error:
        raise HandshakeError(f"{channel.peer} does not answer as a dllama does ({error}).") from error
    if hello is None:
        raise Unanswered(f"{channel.peer} closed the connection without an answer.")
    if hello.get("hello") != PROTOCOL:
        raise HandshakeError(f"{channel.peer} does not speak {PROTOCOL}.")
    if hello.get("role") == role:
        raise HandshakeError(f"{channel.peer} is a {role} too: a {role} needs a {other_role} there.")
    theirs = hello.get("nonce")
    if hello.get("role") != other_role or not isinstance(theirs, str) or not _is_nonce(theirs):
        raise HandshakeError(f"{channel.peer} does not speak {PROTOCOL}.")
    channel.tell({"proof": _proof(role, nonce, theirs)})
    proof = str(channel.expect("proof")).encode("utf-8", "replace")
    if not hmac.compare_digest(proof, _proof(other_role, theirs, nonce).encode()):
        message = "The tokens differ: root and workers need the same GPUPLAN_TOKEN."
        channel.tell({"refuse": message})
        raise HandshakeError(message)
    channel.trust()


def _is_nonce(text: str) -> bool:
    return len(text) <= MAX_NONCE and text.isascii() and text.isalnum()


def _proof(role: str, own_nonce: str, other_nonce: str) -> str:
    token = os.environ.get("GPUPLAN_TOKEN", "").encode()
    return hmac.new(token, f"{PROTOCOL} {role} {own_nonce} {other_nonce}".encode(), hashlib.sha256).hexdigest()
