"""Fixtures of the unit tests."""

from __future__ import annotations

import time

import pytest


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours are shown in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
