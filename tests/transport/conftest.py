"""Machines to talk to: a private OpenSSH server, and an emulated machine of the rehearsal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.transport.agent import Agent
from orchestrator.transport.ssh import SshTransport
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


@pytest.fixture
def agent(transport: SshTransport) -> Agent:
    """The agent, installed and greeted."""
    made = Agent(transport, workspace="/nowhere")
    made.install()
    made.hello()
    return made
