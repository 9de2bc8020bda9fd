"""Runs of tests in copies of the project's tree, each in a fork of a process that has imported the libraries."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

import pytest

ROOT = Path(__file__).resolve().parents[1]
TREES = ROOT / "build" / "mutants"
LIBRARIES = """
import importlib, pkgutil, sys, orchestrator.engine, orchestrator.plan, tests.unit.engine.stories
for package in (orchestrator.engine, orchestrator.plan):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print(*(name for name in sys.modules if name.partition(".")[0] not in ("orchestrator", "tests", "__main__")))
"""


class Change(Protocol):
    """What is another text in the tree while the tests run."""

    @property
    def inside(self) -> str:
        """The file's name in the project."""

    @property
    def source(self) -> str:
        """What it holds."""


@dataclass(frozen=True)
class Try:
    """Tests that shall run on a tree, with one file changed or none."""

    tests: tuple[str, ...]
    limit_s: float
    change: Change | None = None


@dataclass(frozen=True)
class End:
    """How they ended: in time or not, and which tests failed; that they failed without one: none could begin."""

    passed: bool
    failed: tuple[str, ...] = ()
    late: bool = False


@dataclass(frozen=True)
class _Log:
    """A plugin of pytest's that writes each test down as it ends."""

    file: Path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """After setup, call and teardown of a test."""
        with self.file.open("a") as log:
            print(json.dumps([report.nodeid, report.failed, report.duration]), file=log)


def know_libraries() -> None:
    """Import what the tests will: a fork has it then."""
    done = subprocess.run([sys.executable, "-c", LIBRARIES], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in done.stdout.split():
        try:
            __import__(name)
        except ImportError:  # a module of another one's making
            continue


@contextmanager
def trees(count: int) -> Iterator[list[Path]]:
    """So many copies of what git knows of the project."""
    shutil.rmtree(TREES, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    made = [TREES / str(number) for number in range(count)]
    for place in made:
        for name in filter(None, listed.decode().split("\0")):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    yield made
    shutil.rmtree(TREES, ignore_errors=True)


def ended(tries: Iterable[Try], places: list[Path], done: Callable[[int, End], None]) -> None:
    """Run each, as many at a time as there are trees; `done` hears of each end, by the number of the try."""
    waiting = list(enumerate(tries))[::-1]
    free = list(places)
    living: dict[int, _Living] = {}
    while waiting or living:
        while waiting and free:
            number, one = waiting.pop()
            begun = _begin(number, one, free.pop())
            living[begun.pid] = begun
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            begun = living.pop(pid)
            free.append(begun.place)
            done(begun.number, begun.end(status))
            continue
        for begun in living.values():
            if time.monotonic() > begun.limit:
                os.killpg(begun.pid, signal.SIGKILL)
        time.sleep(0.02)


def reports(place: Path) -> list[tuple[str, bool, float]]:
    """Of the tests that ran last in a tree: the name, whether it failed, how long it took."""
    log = place.with_suffix(".log")
    return [(name, bad, took) for name, bad, took in map(json.loads, log.read_text().splitlines())]


@dataclass(frozen=True)
class _Living:
    """A process in which tests run."""

    pid: int
    number: int
    one: Try
    place: Path
    limit: float

    def end(self, status: int) -> End:
        """What it left, once it has ended; the tree is as it was before."""
        with suppress(ProcessLookupError):  # what it began and did not end
            os.killpg(self.pid, signal.SIGKILL)
        if self.one.change:
            shutil.copy2(ROOT / self.one.change.inside, self.place / self.one.change.inside)
        failed = tuple(dict.fromkeys(name for name, bad, _ in reports(self.place) if bad))
        return End(status == 0, failed, late=os.WIFSIGNALED(status) and time.monotonic() > self.limit)


def _begin(number: int, one: Try, place: Path) -> _Living:
    place.with_suffix(".log").write_text("")
    if one.change:
        changed = place / one.change.inside
        changed.write_text(one.change.source)
        os.utime(changed, (number + 1, number + 1))  # what was compiled of it in the tree is of another time
    pid = os.fork()
    if not pid:
        _test(one.tests, place)
    return _Living(pid, number, one, place, time.monotonic() + one.limit_s)


def _test(arguments: tuple[str, ...], place: Path) -> NoReturn:
    """In the process that was forked for it."""
    code = 1
    try:
        os.setsid()
        os.chdir(place)
        said = os.open(place.with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.path[:0] = [str(place)]
        os.environ["PYTHONPATH"] = str(place)
        code = int(pytest.main(["-q", "-p", "no:cacheprovider", *arguments], plugins=[_Log(place.with_suffix(".log"))]))
    finally:
        sys.stdout.flush()
        os._exit(code)
