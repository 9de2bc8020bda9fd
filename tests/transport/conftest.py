"""Machines to talk to: a private OpenSSH server, and an emulated machine of the rehearsal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.transport.agent import Agent
from orchestrator.transport.ssh import SshTransport
from orchestrator.words.provider import Address
from tests.rehearsal.hosts.ssh_machines import Cloud
from tests.transport.sshd import Known, Sshd, private_sshd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    """A private sshd."""
    with private_sshd(tmp_path) as running:
        yield running


@pytest.fixture
def transport(server: Sshd) -> Iterator[SshTransport]:
    """A transport to it."""
    made = SshTransport(server.address, server.key_file, Known())
    yield made
    made.close()


@dataclass(frozen=True)
class Reached:
    """A machine with its agent installed and greeted, and a way to cut its connections."""

    agent: Agent
    home: Path
    workspace: Path
    cut: Callable[[], None]


@pytest.fixture(params=["sshd", "emulated"])
def reached(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reached]:
    """The same machine twice: a real sshd, and a host of the rehearsal."""
    if request.param == "sshd":
        with private_sshd(tmp_path / "it's here") as server:
            yield from _greet(SshTransport(server.address, server.key_file, Known()), server.home, server.cut)
        return
    cloud = Cloud(tmp_path)
    host = cloud.boot()
    address = Address(host.host, host.port, "root")
    yield from _greet(SshTransport(address, cloud.key, Known()), host.home, lambda: cloud.run(cloud.hosts.cut("m1")))
    cloud.close()


def _greet(transport: SshTransport, home: Path, cut: Callable[[], None]) -> Iterator[Reached]:
    agent = Agent(transport, workspace="/nowhere")
    agent.install()
    yield Reached(agent, home, Path(agent.hello().workspace), cut)
    transport.close()
