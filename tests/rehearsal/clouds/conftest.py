"""Clouds for the tests, each on a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.clouds.clouds_support import KEY, Cloud, FakeHosts, ManualClock, Server


@pytest.fixture
def start_cloud(tmp_path: Path) -> Iterator[Callable[..., Cloud]]:
    """Start a cloud on a folder; a second call on the same folder takes it over (the first must be stopped)."""
    servers: list[Server] = []

    def start(folder: Path = tmp_path / "cloud", hosts: FakeHosts | None = None) -> Cloud:
        clock = ManualClock()
        server = Server(folder, hosts or FakeHosts(), clock)
        servers.append(server)
        server.start()
        assert server.ready.wait(10)
        url = f"http://127.0.0.1:{server.port}"
        return Cloud(url, server.state, server.hosts, clock, server.stop, server.call)

    yield start
    for server in servers:
        if server.is_alive():
            breaches = server.state.breaches()
            server.stop()
            assert breaches == []


@pytest.fixture
def cloud(start_cloud: Callable[..., Cloud]) -> Cloud:
    return start_cloud()


@pytest.fixture
def pod_body() -> dict[str, Any]:
    """A create that works."""
    return {
        "name": "gpuplan-a",
        "image": "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404",
        "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 1, "minCudaVersion": "12.8"},
        "ports": ["22/tcp"],
        "env": {"PUBLIC_KEY": KEY},
        "disk": 50,
    }
