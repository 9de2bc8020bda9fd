"""One SSH connection: opening it with a pinned host key, its channels, and noticing that the other side is frozen."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.words.errors import ConnectionLost, HostKeyChanged, KeyRefused, NobodyListens
from orchestrator.words.provider import Address

if TYPE_CHECKING:
    import paramiko

CHANNELS = 8  # at the same time on one connection: sshd allows 10
CONNECT_S = 15.0
BANNER_S = 15.0
CHANNEL_S = 15.0
LOOK_S = 1.0  # how often the connection's thread looks at its clock; paramiko itself would ten times a second
REKEY_BYTES, REKEY_PACKETS = 1 << 40, 1 << 31  # RFC 4344 asks for new keys after 2**31 packets at the latest
KEEPALIVE_S = 15  # keeps a firewall's or a router's table entry alive
PING_EVERY_S = 10.0
PING_LIMIT_S = 30.0  # behind a full send window an answer may take a while

_log = logging.getLogger("paramiko")
_log.addHandler(logging.NullHandler())  # without any handler, paramiko's tracebacks go to stderr
_log.propagate = False


class HostKeyStore(Protocol):
    """Where the keys of the machines are kept. `host_port` is "HOST:PORT", a key is "TYPE BASE64"."""

    def get(self, host_port: str) -> str | None:
        """The key that was seen at first contact; None: never seen."""
        ...

    def put(self, host_port: str, key: str) -> None:
        """Remember the key of a first contact."""
        ...


class ChannelRefused(Exception):
    """The server lives and opens no further channel on this connection."""


class Link:
    """An open connection with at most CHANNELS channels. Thread-safe; once it is lost it stays lost."""

    def __init__(
        self,
        address: Address,
        key_file: Path,
        known: HostKeyStore,
        *,
        ping_every_s: float = PING_EVERY_S,
        ping_limit_s: float = PING_LIMIT_S,
    ) -> None:
        """Connect. ConnectionLost: nobody answers, or not as SSH; HostKeyChanged: another key than at first contact."""
        self.address = address
        self.in_use = 0  # guarded by whoever hands out the channels, as is the next
        self.capacity = CHANNELS  # less where the server has shown that it allows less
        self._ping_every_s, self._ping_limit_s = ping_every_s, ping_limit_s
        self._closed = threading.Event()
        self._connection = _connect(address, key_file, known)
        self.transport: paramiko.Transport = self._connection.transport
        self.transport.set_keepalive(KEEPALIVE_S)
        # paramiko agrees on new keys every 512 MiB, and a channel that closes meanwhile blocks its reader.
        self.transport.packetizer.REKEY_BYTES = REKEY_BYTES
        self.transport.packetizer.REKEY_PACKETS = REKEY_PACKETS
        self.transport.sock.settimeout(LOOK_S)
        threading.Thread(target=self._watch, name=f"ping {address}", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return not self._closed.is_set() and self.transport.is_active()

    def session(self, command: str, window: int | None = None) -> paramiko.Channel:
        """Open a channel and start a command on it. ChannelRefused, or paramiko's and the socket's errors.

        `window`: bytes that may be under way to us without our word for them; None: paramiko's 2 MiB.
        """
        import paramiko

        began = time.monotonic()
        try:
            channel = self.transport.open_session(window, timeout=CHANNEL_S)
        except paramiko.SSHException as error:
            # Of several refusals at once paramiko tells only one thread the reason, so the reason is not looked at.
            if self.alive and time.monotonic() - began < CHANNEL_S:
                raise ChannelRefused(str(error)) from error
            raise
        with self._bounded(CHANNEL_S):  # exec_command itself would wait for ever
            channel.exec_command(command)
        return channel

    def close(self) -> None:
        """Close the connection; whoever waits on a channel of it is woken. Idempotent."""
        if not self._closed.is_set():
            self._closed.set()
            with contextlib.suppress(OSError):  # wakes the connection's thread, which else looks once a second
                self.transport.sock.shutdown(socket.SHUT_RDWR)
            self._connection.close()
            self.transport.close()

    @contextmanager
    def _bounded(self, seconds: float) -> Iterator[None]:
        """Close the connection if the block takes longer."""
        timer = threading.Timer(seconds, self.close)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _watch(self) -> None:
        """Ask the other side for a sign of life again and again: a frozen one leaves the connection open for hours."""
        while not self._closed.wait(self._ping_every_s) and self.transport.is_active():
            with self._bounded(self._ping_limit_s):
                try:
                    self.transport.global_request("keepalive@openssh.com", wait=True)
                except Exception:  # noqa: BLE001 - whatever it is, the connection is of no use
                    self.close()


def _connect(address: Address, key_file: Path, known: HostKeyStore) -> Any:
    """An opened fabric.Connection, without Nagle's delay from its first byte on."""
    import fabric
    import paramiko

    host_port = f"{address.host}:{address.port}"
    options = {"key_filename": str(key_file), "look_for_keys": False, "allow_agent": False}
    limits = {"banner_timeout": BANNER_S, "auth_timeout": BANNER_S, "channel_timeout": CHANNEL_S}
    config = fabric.Config(overrides={"load_ssh_configs": False})
    connection, sock = None, None
    try:
        sock = socket.create_connection((address.host, address.port), timeout=CONNECT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = fabric.Connection(
            address.host,
            user=address.user,
            port=address.port,
            config=config,
            connect_kwargs={**options, **limits, "sock": sock},
        )
        _pin(connection.client, address, known.get(host_port))
        connection.client.set_missing_host_key_policy(_first_contact(known, host_port))
        connection.open()
        return connection
    except paramiko.BadHostKeyException as error:
        raise HostKeyChanged(
            f"{address} shows another host key than at first contact ({error.key.get_name()})",
            remedy="it is not the machine that was there, or was made anew: nothing was sent to it",
        ) from error
    except paramiko.AuthenticationException as error:
        raise KeyRefused(
            f"{address} does not accept the key {key_file}",
            remedy=f"add {key_file}.pub to its authorized_keys, or name another key with --ssh-key",
        ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        kind = NobodyListens if sock is None and isinstance(error, OSError) else ConnectionLost
        raise kind(f"cannot connect to {address}: {error or type(error).__name__}") from error
    finally:
        if sock and connection is not None and not connection.is_connected:
            connection.close()
            sock.close()


def _pin(client: paramiko.SSHClient, address: Address, known: str | None) -> None:
    """Let the client accept this one key only, if it is known."""
    import paramiko

    if known is None:
        return
    name = address.host if address.port == 22 else f"[{address.host}]:{address.port}"
    kind, text = known.split()[:2]
    entry = paramiko.hostkeys.HostKeyEntry.from_line(f"{name} {kind} {text}")
    if entry is None or entry.key is None:
        raise ConnectionLost(f"the host key on record for {address} cannot be read: {known!r}")
    client.get_host_keys().add(name, kind, entry.key)


def _first_contact(known: HostKeyStore, host_port: str) -> paramiko.MissingHostKeyPolicy:
    """Trust on first use: accept the first key that is seen at an address, and write it down."""
    import paramiko

    class PinOnFirstContact(paramiko.MissingHostKeyPolicy):
        def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
            known.put(host_port, f"{key.get_name()} {key.get_base64()}")

    return PinOnFirstContact()
