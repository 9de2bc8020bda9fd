"""The GCS emulator in an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from aiohttp import web
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.gcs import BUCKET, Gcs


class GcsServed:
    """Serves for as long as it is entered."""

    bucket = BUCKET

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.switches = Switchboard()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        app = web.Application()
        app.add_routes(Gcs(self.folder, switches=self.switches).routes())
        self._runner = web.AppRunner(app, shutdown_timeout=0.5)

        async def start() -> int:
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
            return int(self._runner.addresses[0][1])

        self.endpoint = f"http://127.0.0.1:{asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def client(self) -> storage.Client:
        return storage.Client(
            project="rehearsal",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.endpoint},
        )

    @staticmethod
    def settled(ask: Callable[[], int | None]) -> int:
        """Ask until two answers agree: the server may not have seen the end of a cut connection yet."""
        before = ask()
        for _ in range(100):
            time.sleep(0.02)
            if (now := ask()) == before and now is not None:
                return now
            before = now
        raise AssertionError("never settled")
