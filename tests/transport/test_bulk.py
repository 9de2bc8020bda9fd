"""Large files from a machine over SSH, on an emulated one: distance and gigabytes cost nothing more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import paramiko
import pytest

from orchestrator.transport.ssh import SshTransport
from orchestrator.words.ports import Address
from tests.rehearsal.hosts.ssh_machines import Cloud
from tests.transport.sshd import Known


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
    (channel,) = cast("Any", transport._links[0].transport)._channels.values()
    give_up = time.monotonic() + 30
    while len(channel.in_buffer) < 33 << 20:
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
