"""Addresses: what the user writes, where a listener binds, and which interface a connection uses."""

import ipaddress
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from dllama_glm.runtime.errors import UsageError
from dllama_glm.runtime.machine import note

LOOPBACK = "127.0.0.1"
SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface
BACKLOG = 16


@dataclass(frozen=True)
class Endpoint:
    """A host name or address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Read `host:port` or `tcp://host:port`."""
    host, colon, port = text.removeprefix("tcp://").rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"'{text}' is no address: write HOST:PORT or tcp://HOST:PORT, with a port from 1 to 65535.")
    return Endpoint(host.strip("[]"), int(port))


def parse_endpoints(words: Iterable[str]) -> list[Endpoint]:
    """Read addresses that are separated by commas or given as several words, or both; none only from no words."""
    given = list(words)
    found = [parse_endpoint(part) for word in given for part in word.split(",") if part]
    if given and not found:
        raise UsageError("--workers names no address: write HOST:PORT, or leave it out (is $GPUPLAN_WORKERS empty?).")
    return found


def is_loopback(address: str) -> bool:
    """Whether a numeric address stays on this machine."""
    return ipaddress.ip_address(address).is_loopback


def private_address() -> str | None:
    """Return the address of the interface that leads out, if it is one of a private network; None otherwise."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 9))  # chooses a route; a datagram socket sends nothing by connecting
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return address if ipaddress.ip_address(address).is_private else None


def check_reach(address: str) -> None:
    """Refuse an address where strangers could come: a public one, or any beyond loopback without a token."""
    if is_loopback(address):
        return
    if ipaddress.ip_address(address).is_global:
        raise UsageError(
            f"{address} is a public address, and ranks talk in the clear: use the private network between the hosts, "
            "or a tunnel (ssh -L)."
        )
    if not os.environ.get("GPUPLAN_TOKEN"):
        raise UsageError(
            f"Whoever reaches {address} could take part: set the same secret as GPUPLAN_TOKEN for root and workers."
        )


def listen(port: int, *, other_hosts: bool) -> list[socket.socket]:
    """Listen on loopback and on the private address that GPUPLAN_PRIVATE_IP names, there only with a token.

    Without that variable, `other_hosts` also listens on the private network that this machine is on, if it is on one
    and there is a token.
    """
    private = os.environ.get("GPUPLAN_PRIVATE_IP") or None
    if private is None and other_hosts:
        private = private_address()
        if private is not None and not os.environ.get("GPUPLAN_TOKEN"):
            note("no GPUPLAN_TOKEN is set: only this host's workers can come")
            private = None
    private = private or LOOPBACK
    try:
        check_reach(private)
    except ValueError:
        raise UsageError(f"GPUPLAN_PRIVATE_IP is {private!r}, which is no address.") from None
    sockets: list[socket.socket] = []
    for address in dict.fromkeys([LOOPBACK, private]):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(BACKLOG)
        except OSError as error:
            for opened in (*sockets, listener):
                opened.close()
            raise UsageError(f"Cannot listen on {address}:{port}: {error.strerror}. Choose another --port.") from error
        sockets.append(listener)
        port = listener.getsockname()[1]  # with port 0 the second address takes the port that the first was given
    return sockets


def interface_of(address: str) -> str | None:
    """Return the name of the interface with this IPv4 address, or None where the system does not tell (not Linux)."""
    names = [name for _, name in socket.if_nameindex()]
    if is_loopback(address):
        return next((name for name in ("lo", "lo0") if name in names), None)
    try:
        import fcntl
    except ImportError:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in names:
            try:
                reply = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # an interface without an IPv4 address
                continue
            if socket.inet_ntoa(reply[20:24]) == address:
                return name
    return None
