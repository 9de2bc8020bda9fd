"""The rehearsal's hub in a thread, with a list of what was asked of it."""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.hub import Hub

TOKEN = "hf_of_the_tests"
_SHARD = re.compile(r"/resolve/(?P<commit>\w+)/(?P<name>.+\.safetensors)$")


class Emulated:
    """The hub's address and switches; `asked` is (path, Range or "") of every request so far."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.switches = Switchboard()
        self.asked: list[tuple[str, str]] = []

    def shards(self) -> list[tuple[str, int]]:
        """(name, first byte) of every request for a shard's content."""
        found = [(_SHARD.search(path), part) for path, part in self.asked]
        return [(match["name"], int(part[6:].split("-")[0])) for match, part in found if match]

    @web.middleware
    async def listen(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append((request.path, request.headers.get("Range", "")))
        reply: web.StreamResponse = await handler(request)
        return reply


@contextmanager
def hub_of(models: Path) -> Iterator[Emulated]:
    """A hub that serves the folders OWNER/NAME below `models`; PrimeIntellect/INTELLECT-3 is gated."""
    emulated, loop = Emulated(), asyncio.new_event_loop()
    app = web.Application(middlewares=[emulated.listen])
    app.add_routes(Hub(models, TOKEN, switches=emulated.switches).routes())
    runner = web.AppRunner(app)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    emulated.endpoint = f"http://127.0.0.1:{loop.run_until_complete(start())}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield emulated
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
