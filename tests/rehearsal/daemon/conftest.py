"""A rehearsal's daemon for a test, ended after it whatever happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.rehearsal import client
from orchestrator.words.errors import GpuplanError
from tests import forked


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., client.Rehearsal]]:
    """Starts rehearsals in the test's folder.

    Forked: that a fresh interpreter is started as well is seen where a controller of its own starts one.
    """
    monkeypatch.setattr(client, "_spawn", forked.spawn)
    started: list[client.Rehearsal] = []

    def begin(name: str = "rehearsal", **options: object) -> client.Rehearsal:
        started.append(client.start(tmp_path / name, **options))  # type: ignore[arg-type]  # as the test gives them
        return started[-1]

    yield begin
    for rehearsal in started:
        try:
            rehearsal.stop()
        except GpuplanError:
            continue
