"""The control connection between the root and one worker: one JSON document a line.

Both ends prove that they hold the same token (GPUPLAN_TOKEN; empty without one) before anything else is said; the
token itself never travels.
"""

import hashlib
import hmac
import json
import os
import secrets
import socket
from contextlib import ExitStack
from typing import Any

from dllama_glm.runtime.errors import DllamaError

PROTOCOL = "dllama-glm/1"
PATIENCE = 10.0  # seconds for one answer of the handshake
MAX_LINE = 1 << 24
MAX_GREETING = 1 << 16  # what a stranger may make this end keep in memory
MAX_NONCE = 64
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # a host that vanishes is noticed in 20 s

Message = dict[str, Any]


class HandshakeError(DllamaError):
    """The other end is no fitting dllama, or does not hold the token."""


class Channel:
    """A connected control socket; `peer` is the other end's address, `local` this end's."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb")
        self._max_line = MAX_GREETING
        self.peer: str = "{}:{}".format(*connection.getpeername()[:2])
        self.local: str = connection.getsockname()[0]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):  # Linux has all three; elsewhere the system's own times hold
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        connection.settimeout(PATIENCE)

    def send(self, message: Message) -> None:
        """Send one message; a connection that is gone raises OSError."""
        self._socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def tell(self, message: Message) -> None:
        """Send one message to an end that may have gone already: then nobody is left to be told."""
        try:
            self.send(message)
        except OSError:
            return

    def receive(self) -> Message | None:
        """Return the next message, or None when the other end has closed the connection, or a line is too long.

        Raises ValueError for what is no JSON.
        """
        line = self._reader.readline(self._max_line)
        if not line.endswith(b"\n"):
            return None
        try:
            message = json.loads(line)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if not isinstance(message, dict):
            raise HandshakeError(f"{self.peer} does not speak {PROTOCOL}.")
        return message

    def expect(self, key: str) -> Any:
        """Return the value of `key` of the next message; raise what the other end refuses with instead."""
        try:
            message = self.receive()
        except (OSError, ValueError) as error:
            raise HandshakeError(f"{self.peer} does not answer as a dllama does ({error}).") from error
        if message is None:
            raise HandshakeError(f"{self.peer} closed the connection.")
        if "refuse" in message:
            raise Refused(str(message["refuse"]))
        if message.get("do") == "end":
            raise Refused(f"The root ended: {message.get('error')}")
        if key not in message:
            raise HandshakeError(f"{self.peer} does not speak {PROTOCOL}.")
        return message[key]

    def trust(self) -> None:
        """Take long lines from now on: the other end has proven itself."""
        self._max_line = MAX_LINE

    def wait_without_limit(self) -> None:
        """Let the following receives wait as long as it takes; keep-alive still notices a lost host."""
        self._socket.settimeout(None)

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()
        self._socket.close()


class Refused(DllamaError):
    """The other end said no, in these words."""


def admit(connection: socket.socket, role: str) -> Channel:
    """Make an accepted connection a channel whose other end holds the token.

    Otherwise the connection is closed, and HandshakeError, Refused or OSError raised.
    """
    with ExitStack() as stack:
        stack.callback(connection.close)
        channel = Channel(connection)
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
    except (OSError, ValueError) as error:
        raise HandshakeError(f"{channel.peer} does not answer as a dllama does ({error}).") from error
    if hello is None or hello.get("hello") != PROTOCOL:
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
