"""Large files from a machine over SSH, on an emulated one: distance and gigabytes cost nothing more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import paramiko
import pytest

from orchestrator.transport.ssh import SshTransport
from orchestrator.words.provider import Address
from tests.rehearsal.hosts.ssh_machines import Cloud
from tests.transport.sshd import Known, Sshd


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[SshTransport, Path]]:
    """A transport to a machine, and a file of 40 MiB on it."""
    cloud = Cloud(tmp_path)
    host = cloud.boot()
    big = host.home / "big.m"
    with big.open("wb") as out:
        out.truncate(40 << 20)
    made = SshTransport(Address(host.host, host.port, "root"), cloud.key, Known())
    yield made, big
    made.close()
    cloud.close()


def test_a_fetch_does_not_wait_for_our_word(far: tuple[SshTransport, Path]):
    """Whoever reads slowly, or far away, has more than 32 MiB under way: a distance costs a fetch no speed."""
    transport, big = far
    fetching = transport.fetch(str(big))
    next(fetching)
    _until_waits(transport, 33 << 20)


def test_who_is_behind_takes_all_that_has_come(far: tuple[SshTransport, Path]):
    """What waits is taken at once: a channel moves all of it whenever only its beginning is taken away."""
    transport, big = far
    fetching = transport.fetch(str(big))
    next(fetching)
    _until_waits(transport, 33 << 20)
    assert len(next(fetching)) >= 33 << 20


def _until_waits(transport: SshTransport, size: int) -> None:
    """Wait until so many bytes have come that nobody has read."""
    (channel,) = cast("Any", transport._links[0].transport)._channels.values()
    give_up = time.monotonic() + 60
    while len(channel.in_buffer) < size:
        assert time.monotonic() < give_up, "the machine waits for our word"
        time.sleep(0.05)


def test_keys_are_not_renewed_in_the_middle(monkeypatch: pytest.MonkeyPatch, far: tuple[SshTransport, Path]):
    """A connection keeps its keys whatever it brings: renewing them blocks who reads while a channel closes."""
    agreed: list[object] = []
    connection = cast("Any", paramiko.Transport)
    begin = connection._send_kex_init

    def counted(self: object) -> None:
        agreed.append(self)
        begin(self)

    monkeypatch.setattr(paramiko.packet.Packetizer, "REKEY_BYTES", 1 << 20)  # as after 512 MiB
    monkeypatch.setattr(connection, "_send_kex_init", counted)
    transport, big = far
    assert sum(map(len, transport.fetch(str(big), 32 << 20))) == 8 << 20
    assert len(agreed) == 1


def test_the_end_of_the_input_is_said_before_a_channel_can_end(
    monkeypatch: pytest.MonkeyPatch, transport: SshTransport
):
    """The answer to a command's end cannot come between: a word on a channel that is no more ends the connection."""
    held: list[bool] = []
    connection = cast("Any", paramiko.Transport)
    send = connection._send_user_message

    def watched(self: Any, message: Any) -> None:
        kind, *number = message.asbytes()[:5]
        if kind == paramiko.common.MSG_CHANNEL_EOF:
            (channel,) = [c for c in self._channels.values() if c.remote_chanid == int.from_bytes(bytes(number))]
            held.append(channel.lock.locked())
        send(self, message)

    monkeypatch.setattr(connection, "_send_user_message", watched)
    assert transport.run("cat", stdin=b"x").stdout == b"x"
    assert transport.run("sleep 0.2").exit == 0
    assert held == [True, True]


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_more_than_a_gibibyte_comes_beside_busy_channels(transport: SshTransport, server: Sshd):
    """1.1 GiB come on one connection while commands begin and end beside them, and none of these fails."""
    size = 1127 << 20
    big, ended, done = server.workspace / "big.m", list[int](), threading.Event()
    with big.open("wb") as out:
        out.truncate(size)

    def ask() -> None:
        while not done.is_set():
            ended.append(transport.run("echo here").exit)

    beside = [threading.Thread(target=ask) for _ in range(4)]
    transport.run("true")
    for thread in beside:
        thread.start()
    try:
        came = sum(map(len, transport.fetch(str(big))))
    finally:
        done.set()
        for thread in beside:
            thread.join()
    assert (came, set(ended), len(transport._links)) == (size, {0}, 1)
