"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import forked
from tests.e2e.tool import Tool


@pytest.fixture(autouse=True)
def _warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rehearsed machines find the kernels that `make warm` has compiled."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(forked.WARM))


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    """A home and a cloud of its own; the cloud is ended with the test, whatever happened."""
    cloud = forked.cloud(tmp_path / "cloud")
    home = tmp_path / "home"
    home.mkdir()
    try:
        yield Tool(home, cloud)
    finally:
        cloud.stop()
