"""The hub in an event loop of its own, over the project's models."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.hub import Hub
from orchestrator.rehearsal.hub_uploads import Uploads
from orchestrator.words import files
from tests.rehearsal.hub.hub_served import TOKEN, Served


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Served]:
    switches = Switchboard()
    loop = asyncio.new_event_loop()
    app = web.Application()
    served = Hub(files.models(), TOKEN, switches=switches)
    app.add_routes(served.routes())
    app.add_routes(Uploads(tmp_path / "uploads", served.repositories, served.allows).routes())
    runner = web.AppRunner(app)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Served(f"http://127.0.0.1:{port}", switches, tmp_path)
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
