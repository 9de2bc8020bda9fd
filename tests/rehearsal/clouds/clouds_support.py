"""An emulated cloud in a thread, with hosts that are only written down and a clock that moves when told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from aiohttp import web

from orchestrator.rehearsal.clouds.clock import CloudClock, HeldClock
from orchestrator.rehearsal.clouds.server import mount
from orchestrator.rehearsal.clouds.state import CloudState
from orchestrator.rehearsal.host_spec import HostSpec

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILXGDN/SclOozk1xsDztpmhGiKkkrfQB9SKoO8dSIQQZ me@example.com"


class ManualClock(HeldClock):
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        super().__init__(START)

    async def go_on(self, seconds: float) -> None:
        await self.advance(self.now() + timedelta(seconds=seconds), _settle)


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


HOST_KEY = "SHA256:" + "k" * 43


@dataclass
class FakeHosts:
    """Remembers what it was asked; `broken` makes the next boots fail."""

    specs: dict[str, HostSpec] = field(default_factory=dict)
    booted: list[str] = field(default_factory=list)
    ended: list[tuple[str, bool]] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    broken: bool = False

    async def boot(self, spec: HostSpec) -> Any:
        if self.broken:
            raise OSError("address in use")
        assert spec.volume is None or spec.volume in self.volumes
        await asyncio.sleep(0)  # booting takes time: others boot meanwhile
        assert spec.address is None or spec.address not in {other.address for other in self.specs.values()}
        self.specs[spec.id] = spec
        self.booted.append(spec.id)
        host, _, port = (spec.address or "127.0.0.1:40022").partition(":")
        port_here = int(port) + len(self.booted) if spec.address is None else int(port)
        return SimpleNamespace(host=host, port=port_here, host_key=HOST_KEY)

    async def end(self, host_id: str, *, keep_disk: bool = False) -> None:
        self.specs.pop(host_id, None)
        self.ended.append((host_id, keep_disk))

    async def cut(self, host_id: str) -> None:
        self.cuts.append(host_id)

    async def hang(self, host_id: str) -> None:
        self.hung.append(host_id)

    async def create_volume(self, name: str) -> None:
        assert name not in self.volumes
        self.volumes.append(name)

    async def destroy_volume(self, name: str) -> None:
        self.volumes.remove(name)

    def volume_bytes(self, name: str) -> int:
        assert name in self.volumes
        return 0


@dataclass
class Cloud:
    """What a test holds of a running cloud."""

    url: str
    state: CloudState
    hosts: FakeHosts
    clock: ManualClock
    stop: Callable[[], None]
    _call: Callable[[Coroutine[Any, Any, Any]], Any]

    def advance(self, seconds: float) -> None:
        self._call(self.clock.go_on(seconds))

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._call(work)

    @cached_property
    def runpod(self) -> httpx.Client:
        return self._client("runpod", f"{self.url}/v2")

    @cached_property
    def lambda_cloud(self) -> httpx.Client:
        return self._client("lambda", f"{self.url}/api/v1")

    def _client(self, vendor: str, base: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.state.api_keys()[vendor]}", "User-Agent": "gpuplan-tests"}
        # Loopback speaks no TLS: without this each client would load the system's certificates.
        return httpx.Client(base_url=base, headers=headers, timeout=10, verify=False)

    def graphql(self, query: str, **variables: Any) -> httpx.Response:
        return self.runpod.post(f"{self.url}/graphql", json={"query": query, "variables": variables})


class Server(threading.Thread):
    def __init__(self, folder: Path, hosts: Any, clock: CloudClock) -> None:
        super().__init__(daemon=True)
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.folder, self.hosts, self.clock = folder, hosts, clock

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._start())
        self.ready.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self.runner.cleanup())
        self.loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**20)
        self.state = mount(app, self.hosts, self.folder, self.clock.time_scale, clock=self.clock)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.port = self.runner.addresses[0][1]

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join(10)
        assert not self.is_alive()
