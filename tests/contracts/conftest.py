"""Serves every kind of store on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import MIB, Served

from orchestrator.rehearsal.s3_gate import BUCKET, S3
from orchestrator.secret import Secret
from orchestrator.storage import StoreAccess, open_store


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


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Served]:
    opened = []

    def build():
        opened.append(open_store((tmp_path / "store").as_uri(), StoreAccess(part_bytes=MIB)))
        return opened[-1]

    yield Served("directory", build, MIB, refuses_bad_parts=True)
    for store in opened:
        store.close()


@pytest.fixture(params=["directory", "s3"])
def served(request: pytest.FixtureRequest) -> Served:
    """Each kind of store in turn."""
    return request.getfixturevalue(request.param)
