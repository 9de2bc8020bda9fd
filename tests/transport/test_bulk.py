"""Large files from a machine over SSH, on an emulated one: distance and gigabytes cost nothing more."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, cast

import paramiko
import pytest

from orchestrator.transport import keys, openssh, ssh
from orchestrator.transport.ssh import SshTransport
from orchestrator.words.errors import ConnectionLost
from orchestrator.words.provider import Address
from tests.rehearsal.hosts.ssh_machines import Cloud
from tests.transport.sshd import Known, Sshd


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SshTransport, Path]]:
    """A transport to a machine, and a file of 40 MiB on it; there is no ssh here."""
    monkeypatch.setattr(ssh, "LITTLE", 0)
    monkeypatch.setattr(shutil, "which", lambda _: None)
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
    _until(lambda: len(channel.in_buffer) >= size)


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


def test_what_is_large_comes_by_openssh(transport: SshTransport, server: Sshd):
    """Its bytes are right, from any offset on, by a connection of its own that is gone afterwards."""
    big = _random(server, 24)
    fetching = transport.fetch(str(big), 5)
    said = next(fetching)
    while len(said) <= ssh.LITTLE:
        said += next(fetching)
    assert len(server.sessions()) == 2
    assert said + b"".join(fetching) == big.read_bytes()[5:]
    _until(lambda: len(server.sessions()) == 1)


def test_what_is_small_needs_no_connection_of_its_own(
    transport: SshTransport, server: Sshd, monkeypatch: pytest.MonkeyPatch
):
    """A few megabytes are there before another connection would be."""
    monkeypatch.setattr(openssh, "fetch", lambda *_: pytest.fail("another connection was made"))
    small = _random(server, 7)
    assert b"".join(transport.fetch(str(small))) == small.read_bytes()


@pytest.mark.parametrize("why", ["no ssh", "no key"])
def test_without_openssh_it_comes_all_the_same(
    why: str, transport: SshTransport, server: Sshd, monkeypatch: pytest.MonkeyPatch
):
    """Where there is none, or it cannot get in, everything comes by a channel, once."""
    big = _random(server, 24)
    if why == "no ssh":
        monkeypatch.setattr(shutil, "which", lambda _: None)
    else:
        transport.run("true")
        server.key_file.rename(server.key_file.with_suffix(".away"))
    assert b"".join(transport.fetch(str(big))) == big.read_bytes()
    assert len(server.sessions()) == 1


def test_openssh_accepts_no_other_host_key(server: Sshd, tmp_path: Path):
    """It gets no byte from a machine that shows another key than the one that is pinned."""
    big, other, never = _random(server, 1), keys.ensure_key_pair(tmp_path), lambda: False
    with pytest.raises(openssh.NothingCame):
        list(openssh.fetch(server.address, server.key_file, other, str(big), 0, 60, never))


@pytest.mark.parametrize("how", ["cut", "closed", "silent"])
def test_a_large_fetch_ends_as_any_other(
    how: str, transport: SshTransport, server: Sshd, monkeypatch: pytest.MonkeyPatch
):
    """Cut, closed or silent: ConnectionLost after what has come, and no process of it is left."""
    monkeypatch.setattr(ssh, "FETCH_SILENCE_S", 1.0)
    fetching, came = transport.fetch(str(_random(server, 64))), 0
    while came <= ssh.LITTLE:
        came += len(next(fetching))
    (child,) = _children()
    if how == "cut":
        server.cut()
    elif how == "closed":
        transport.close()
    else:
        os.kill(child, signal.SIGSTOP)
    with pytest.raises(ConnectionLost):
        list(fetching)
    assert _children() == []


def test_a_large_fetch_that_nobody_reads_on_leaves_no_process(transport: SshTransport, server: Sshd):
    """Its ssh ends with it."""
    fetching, came = transport.fetch(str(_random(server, 64))), 0
    while came <= ssh.LITTLE:
        came += len(next(fetching))
    assert len(_children()) == 1
    cast("Generator[bytes]", fetching).close()
    assert _children() == []


def _until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def _random(server: Sshd, mebibytes: int) -> Path:
    big = server.workspace / "big.m"
    big.write_bytes(os.urandom(mebibytes << 20))
    return big


def _children() -> list[int]:
    """Of this process, those that are ssh."""
    found = subprocess.run(
        ["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
    )
    rows = (line.split() for line in found.stdout.splitlines())
    return [int(pid) for pid, name, *_ in rows if name == "ssh"]


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["by openssh", "by a channel"])
def test_more_than_a_gibibyte_comes_beside_busy_channels(
    transport: SshTransport, server: Sshd, way: str, monkeypatch: pytest.MonkeyPatch
):
    """1.1 GiB come while commands begin and end on the one connection of ours, and none of these fails."""
    if way == "by a channel":
        monkeypatch.setattr(shutil, "which", lambda _: None)
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
