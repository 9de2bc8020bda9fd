"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import forked
from tests.e2e.tool import PLANS, Finished, Tool


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


@pytest.fixture(scope="session")
def _finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Finished]]]:
    """Where the finished run lies, and the run itself once a test has asked for it; its cloud ends with the session."""
    runs: list[Finished] = []
    yield tmp_path_factory.mktemp("finished"), runs
    for one in runs:
        one.tool.cloud.stop()


@pytest.fixture
def finished(_finished_runs: tuple[Path, list[Finished]]) -> Finished:
    """One run of the small plan that came to its end, shared by the tests that only look at one.

    They are of one xdist_group, "finished": it is run once.
    """
    folder, runs = _finished_runs
    if not runs:
        tool = Tool(folder / "home", forked.cloud(folder / "cloud"))
        tool.home.mkdir()
        done = tool.run("run", "all", "--plan", str(PLANS / "small"), "--dry-run", "--yes", "--json")
        runs.append(Finished(tool, done))
    return runs[0]
