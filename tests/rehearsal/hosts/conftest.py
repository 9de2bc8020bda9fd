"""The fixture of the emulated machines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rehearsal.hosts.ssh_machines import Cloud


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Machines for one test; nothing of them is left after it."""
    monkeypatch.setitem(os.environ, "AWS_SECRET_ACCESS_KEY", "of the user")
    monkeypatch.setitem(os.environ, "HF_TOKEN", "of the user")
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.close()
