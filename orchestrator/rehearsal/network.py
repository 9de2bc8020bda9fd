"""The lines of a rehearsal: everything emulated behind relays that pass bytes on at a rate and after a delay.

Each service (a cloud's API, a store, the hub) and each machine has a line of its own, shared by all its connections.
It is made of sockets alone: no kernel module, no root, the same on every system.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass

FORM = re.compile(r"(?P<rate>\d+(?:\.\d+)?)(?P<unit>[kmg])bit(?:,(?P<delay>\d+(?:\.\d+)?)(?P<time>ms|s))?")
BITS = {"k": 1e3, "m": 1e6, "g": 1e9}
SECONDS = {"ms": 1e-3, "s": 1.0}
LEAST_BITS, LONGEST_S = 1e5, 5.0  # beyond, nothing of a rehearsal comes to its end
SLICE_S = 0.01  # of the line's time, that one piece takes
LEAST_PIECE, LARGEST_PIECE = 1500, 1 << 16


@dataclass(frozen=True, slots=True)
class Network:
    """What a line can do: bytes a second each way, and seconds for a way there and back."""

    bytes_s: float
    round_trip_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Network:
        """Read RATE or RATE,DELAY: `100mbit,50ms`. ValueError: it is neither, or out of bounds."""
        found = FORM.fullmatch(text.replace(" ", "").lower())
        if not found:
            raise ValueError(f"{text!r} is no rate and delay, as 100mbit,50ms is")
        bits = float(found["rate"]) * BITS[found["unit"]]
        delay = float(found["delay"] or 0) * SECONDS[found["time"] or "s"]
        if bits < LEAST_BITS or delay > LONGEST_S:
            raise ValueError(f"{text}: at least {LEAST_BITS / 1e3:.0f}kbit, and at most {LONGEST_S:.0f}s")
        return cls(bits / 8, delay)


class Direction:
    """One way of a line: when it is free for the next piece."""

    def __init__(self, network: Network) -> None:
        self._network, self._free_at = network, 0.0
        self.piece = int(min(max(network.bytes_s * SLICE_S, LEAST_PIECE), LARGEST_PIECE))

    def takes(self, count: int, now: float) -> tuple[float, float]:
        """Send so many bytes: when the line is free again, and when the last of them arrives."""
        self._free_at = max(now, self._free_at) + count / self._network.bytes_s
        return self._free_at, self._free_at + self._network.round_trip_s / 2


class Line:
    """What lies between an address that clients see and the port behind it."""

    def __init__(self, network: Network, port: int) -> None:
        self._network, self._port = network, port
        self._there, self._back = Direction(network), Direction(network)
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen there; the port. OSError: the address cannot be had."""
        self._server = await asyncio.start_server(self._accepted, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        if self._server:
            self._server.close()
        for task in self._passing:
            task.cancel()

    async def _accepted(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        writers, whole = [to_client], False
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
            writers.append(to_server)
            now = asyncio.get_running_loop().time()
            ways = [
                self._pass(client, to_server, self._there, now + self._network.round_trip_s),  # after the handshake
                self._pass(server, to_client, self._back, now),
            ]
            await asyncio.gather(*ways)
            whole = True
        except (OSError, asyncio.CancelledError):  # one of them was cut, or has gone: so does the other
            pass
        finally:
            self._passing.discard(task)
            for writer in writers:
                if whole:
                    writer.close()
                else:
                    writer.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction, begins: float
    ) -> None:
        """Pass on what comes, until it ends: in pieces, each when its last byte has arrived."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                at, data = await under_way.get()
                await asyncio.sleep(at - loop.time())
                if not data:
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        delivering = asyncio.ensure_future(deliver())
        try:
            await asyncio.sleep(begins - loop.time())
            while True:
                data = await reader.read(way.piece)
                free_at, arrives = way.takes(len(data), loop.time())
                under_way.put_nowait((arrives, data))
                if not data:
                    await delivering
                    return
                await asyncio.sleep(free_at - loop.time())
        finally:
            delivering.cancel()
