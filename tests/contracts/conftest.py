"""Serves every kind of store on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from orchestrator.rehearsal import client
from orchestrator.rehearsal.gcs import BUCKET as GCS_BUCKET
from orchestrator.rehearsal.gcs import Gcs
from orchestrator.rehearsal.in_process import InProcessClouds
from orchestrator.rehearsal.s3_gate import BUCKET, S3
from orchestrator.rehearsal.s3_kinds import KINDS
from orchestrator.storage import StoreAccess, open_store
from orchestrator.storage.directory import DirectoryStore
from orchestrator.transport.keys import ensure_key_pair, key_file
from orchestrator.words import waiting
from orchestrator.words.observed import Observed
from orchestrator.words.secret import Secret
from tests import forked
from tests.contracts.contract_clouds import Clock, Cloud, in_process, over_http
from tests.contracts.contract_stores import MIB, Served

# Tests ask more in a minute of the cloud's time, which is 0.6 s or stands still, than anybody in one of the world's.
PATIENT = Observed(provider="runpod", quotas={"minute": 6000, "hour": 300_000})

Like = Callable[[str], tuple[S3, StoreAccess, str]]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    server = S3()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3) -> Served:
    access = StoreAccess(
        endpoint=s3_server.endpoint,
        access_key=s3_server.access_key,
        secret_key=Secret(s3_server.secret_key),
        region="us-east-1",
        part_bytes=5 * MIB,
    )
    return Served("s3", lambda: open_store(f"s3://{BUCKET}/runs/r1", access), 5 * MIB, refuses_bad_parts=True)


@pytest.fixture(scope="session")
def s3_like() -> Iterator[Like]:
    """An S3 of a vendor's kind: the server, the credentials, and what a store's URL says behind its `?`."""
    running: dict[str, S3] = {}

    def served(kind: str) -> tuple[S3, StoreAccess, str]:
        if kind not in running:
            running[kind] = S3(kind=KINDS[kind])
            running[kind].start()
        server = running[kind]
        region = {"r2": "auto", "b2": "us-west-004"}.get(kind, "us-east-1")
        access = StoreAccess(access_key=server.access_key, secret_key=Secret(server.secret_key), part_bytes=5 * MIB)
        return server, access, f"?endpoint_url={server.endpoint}&region={region}"

    yield served
    for server in running.values():
        server.stop()


@pytest.fixture
def r2(s3_like: Like) -> Served:
    """The one that refuses most."""
    _, access, said = s3_like("r2")
    return Served("r2", lambda: open_store(f"s3://{BUCKET}/runs/r2{said}", access), 5 * MIB, refuses_bad_parts=True)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Served]:
    opened: list[DirectoryStore] = []

    def build() -> DirectoryStore:
        store = open_store((tmp_path / "store").as_uri(), StoreAccess(part_bytes=MIB))
        assert isinstance(store, DirectoryStore)
        opened.append(store)
        return store

    yield Served("directory", build, MIB, refuses_bad_parts=True)
    for store in opened:
        store.close()


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the endpoint of the GCS emulator, which lives in a loop of its own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[web.AppRunner, int]:
        application = web.Application(client_max_size=1 << 30)
        application.add_routes(Gcs(tmp_path_factory.mktemp("gcs")).routes())
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, runner.addresses[0][1]

    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    yield f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def gcs(gcs_server: str) -> Served:
    access = StoreAccess(endpoint=gcs_server, part_bytes=MIB)
    return Served("gcs", lambda: open_store(f"gs://{GCS_BUCKET}/runs/r1", access), MIB, refuses_bad_parts=False)


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[client.Rehearsal]:
    """Yield the emulated clouds, in a daemon of their own."""
    PATIENT.save(seen := tmp_path_factory.mktemp("seen"))
    started = forked.cloud(tmp_path_factory.mktemp("cloud"), time_scale=0.01, fixtures=seen)
    yield started
    started.stop()


@pytest.fixture(scope="module", params=["runpod", "lambda", "runpod in process", "lambda in process"])
def on(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Each cloud in turn: over HTTP, then in this process."""
    home = tmp_path_factory.mktemp("home")
    name, _, inside = request.param.partition(" ")
    key = ensure_key_pair(home)
    if not inside:
        yield over_http(name, request.getfixturevalue("rehearsal"), key, key_file(home))
        return
    clock = Clock()
    with InProcessClouds(
        cast("waiting.Clock", clock), observed={"runpod": PATIENT}
    ) as clouds:  # they ask it for the moment, and to sleep
        yield in_process(name, clouds, clock, key)
        assert clouds.breaches() == []


@pytest.fixture
def leaves_nothing(on: Cloud) -> Iterator[None]:
    """Whatever a test leaves in the cloud is ended, and must end."""
    yield
    for view in on.provider.machines():
        on.provider.destroy(view.id)
    on.until(lambda: not on.provider.machines(), "the machines are gone")
    for volume in on.provider.volumes():
        on.until(partial(on.ends_volume, volume.id), "the volume is gone")
    assert on.rehearsal.alive()["machines"] == []


@pytest.fixture(params=["directory", "s3", "r2", "gcs"])
def served(request: pytest.FixtureRequest) -> Served:
    """Each kind of store in turn."""
    return request.getfixturevalue(request.param)
