"""The lock of a run: who drives it, and whether anybody does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.world.home import Home

RUN = "1101-aaaa"
DRIVER = """
import sys
from pathlib import Path
from orchestrator.world.home import Home
with Home(Path(sys.argv[1])).lock(sys.argv[2]) as mine:
    print(mine is not None, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one run."""
    home = Home(tmp_path)
    home.run_folder(RUN).mkdir(parents=True)
    return home


@contextmanager
def driven(home: Home) -> Iterator[subprocess.Popen[str]]:
    """Another process drives the run."""
    words = [sys.executable, "-c", DRIVER, str(home.path), RUN]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        yield process
        process.stdin.close()


def test_a_run_is_driven_as_long_as_the_process_lives(home: Home):
    """Nobody has driven it yet; then another process does; once that is killed, nobody does."""
    assert not home.is_driven(RUN)
    with driven(home) as process:
        assert home.is_driven(RUN)
        with home.lock(RUN) as mine:
            assert mine is None
        process.kill()
        process.wait(30)
        assert not home.is_driven(RUN)


def test_to_look_hinders_nobody(home: Home):
    """Who only looks leaves the lock as it is, and needs no right to write."""
    (home.run_folder(RUN) / "lock").touch(0o400)
    assert not home.is_driven(RUN)
    with driven(home):
        assert home.is_driven(RUN)
    assert not home.is_driven(RUN)
