"""--network and --clock-skew: lines with a rate and a delay, machines whose clocks are wrong."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from orchestrator.rehearsal.client import Conditions, Rehearsal
from orchestrator.rehearsal.network import Line, Network
from orchestrator.transport import commands
from orchestrator.words.errors import UsageError
from orchestrator.words.spec import WorldSpec
from orchestrator.world import rehearsed
from tests.rehearsal.daemon.test_daemon import rent

BYTES = 500_000


def test_a_network_is_a_rate_and_a_delay():
    """Bits a second and a way there and back; what nothing would come through in time is refused, as is no network."""
    assert Network.parse("100mbit,50ms") == Network(12.5e6, 0.05)
    assert Network.parse("1 Gbit") == Network(125e6)
    for wrong in ("", "fast", "100", "100mbit,50", "1kbit", "1mbit,9s", "50ms,100mbit"):
        with pytest.raises(ValueError, match=r"bit|rate"):
            Network.parse(wrong)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.write_eof()
    await writer.drain()
    writer.close()


async def _through(network: Network, sent: bytes, connections: int = 1) -> tuple[list[bytes], float]:
    """What comes back of each connection to an echo at the end of a line, and how long all of them took."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    line = Line(network, server.sockets[0].getsockname()[1])
    port = await line.open()

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        writer.write_eof()
        return await reader.read(-1)

    began = time.monotonic()
    found = await asyncio.gather(*(one() for _ in range(connections)))
    took = time.monotonic() - began
    line.close()
    server.close()
    return found, took


def test_bytes_come_whole_after_the_lines_time():
    """A byte takes two round trips, the first of them the handshake; many take the rate, shared by all connections."""
    found, took = asyncio.run(_through(Network(1e9, 0.2), b"x"))
    assert found == [b"x"]
    assert 0.4 <= took < 5
    sent = bytes(range(250)) * (BYTES // 250)
    found, took = asyncio.run(_through(Network(2e6), sent, connections=2))
    assert found == [sent, sent]
    assert took >= 2 * BYTES / 2e6


def test_a_cut_behind_a_line_is_a_cut_before_it():
    """Whoever is at one end learns that the other one has gone, as without the line."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async def asked() -> bytes:
        server = await asyncio.start_server(cut, "127.0.0.1", 0)
        line = Line(Network(1e6, 0.02), server.sockets[0].getsockname()[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", await line.open())
        writer.write(b"x")
        try:
            return await asyncio.wait_for(reader.read(1), 10)
        finally:
            line.close()
            server.close()

    try:
        assert asyncio.run(asked()) == b""
    except ConnectionResetError:
        pass


def test_everything_but_its_control_page_is_behind_a_line(begin: Callable[..., Rehearsal], tmp_path: Path):
    """Hub, stores, clouds and machines answer after the delay; a machine's clock is ahead for whoever asks it."""
    rehearsal = begin(conditions=Conditions("20mbit,150ms", 600.0))
    facts = rehearsal.facts
    assert facts.conditions == Conditions("20mbit,150ms", 600.0)
    for address in (facts.hub, facts.gcs, facts.s3.endpoint, facts.clouds["lambda"].url):
        began = time.monotonic()
        httpx.get(address)
        assert time.monotonic() - began >= 0.3, address
    ssh = rent(rehearsal, tmp_path / "rent")
    began = time.monotonic()
    asks = "import time; print(time.time(), time.strftime('%s'))"
    agent = commands._FIND_PYTHON + '; printf %s "$1" > agent.py; exec "$python" -I -S -X utf8 agent.py'
    there = f'python3 -c "{asks}"; date +%s; set -- "{asks}"; {agent}'
    said = subprocess.run([*ssh, there], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert time.monotonic() - began >= 0.6  # the handshakes of TCP and SSH
    ahead = [float(moment) - time.time() for moment in said]
    assert len(ahead) == 5
    assert all(540 < seconds < 610 for seconds in ahead), ahead


def test_a_living_cloud_keeps_its_conditions():
    """A run that asks for others is refused; one that asks for none takes what there is."""
    there = Conditions("1gbit,1ms", 0.0)
    for asked in (there, Conditions()):
        rehearsed._require(there, asked)
    with pytest.raises(
        UsageError, match=r"alive with other conditions \(network 1gbit,1ms\) than .* \(clocks 60 s behind"
    ):
        rehearsed._require(there, Conditions(clock_skew_s=-60.0))
    assert WorldSpec(provider="").network == ""
