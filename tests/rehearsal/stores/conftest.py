"""The rehearsal's stores on ports of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.s3_gate import REGION, S3
from tests.rehearsal.stores.gcs_served import GcsServed


@pytest.fixture(scope="session")
def s3_switches() -> Switchboard:
    return Switchboard()


@pytest.fixture(scope="session")
def s3(s3_switches: Switchboard) -> Iterator[S3]:
    store = S3(switches=s3_switches)
    store.start()
    yield store
    store.stop()


@pytest.fixture
def client(s3: S3):
    """A boto3 client as the controller makes it."""
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 1},
        read_timeout=10,
        connect_timeout=5,
    )
    return boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name=REGION,
        config=config,
    )


@pytest.fixture
def gcs(tmp_path: Path) -> Iterator[GcsServed]:
    with GcsServed(tmp_path / "gcs") as served:
        yield served
