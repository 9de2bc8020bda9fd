"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.rehearsal import client
from tests.e2e.tool import PROJECT, Tool


@pytest.fixture(autouse=True)
def _warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rehearsed machines find the kernels that `make warm` has compiled."""
    warm = PROJECT / "remote" / "distributed-llama" / "dllama_glm" / "quantise" / "__pycache__"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(warm))


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    """A home and a cloud of its own; the cloud is ended with the test, whatever happened."""
    cloud = client.start(tmp_path / "cloud", idle_minutes=5)
    home = tmp_path / "home"
    home.mkdir()
    try:
        yield Tool(home, cloud)
    finally:
        cloud.stop()
