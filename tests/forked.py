"""Processes of gpuplan, of its rehearsal and of the payload, forked from one that has imported what they need.

They are processes like any other: with an environment, a folder, files and signals of their own, and killed as such;
but a second earlier at work, and with what their memory holds shared with the one before them.
What only a fresh interpreter shows is tested in one (tests/e2e/test_wheel.py, tests/e2e/test_strange_folder.py).
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

import pytest

from orchestrator.rehearsal import client

NEEDED = (
    *(f"orchestrator.cli.{name}" for name in ("looking", "planning", "resuming", "running", "stopping")),
    *(f"orchestrator.{name}" for name in ("engine.durable", "rehearsal.daemon", "report.live", "transport.ssh")),
    *(f"orchestrator.{name}" for name in ("providers.lambdalabs", "providers.runpod", "storage.s3")),
    *(f"orchestrator.world.{name}" for name in ("opening", "rehearsed")),
    *("moto.server", "numba", "safetensors", "tokenizers", "jinja2", "torch", "torch.distributed"),
)
WARM = (
    Path(__file__).parents[1] / "remote/distributed-llama/dllama_glm/quantise/__pycache__"
)  # what `make warm` compiled
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__, *NEEDED])


class Living:
    """A process that writes to descriptors of its maker; `pid`, `poll` and others are as `subprocess.Popen`'s."""

    def __init__(
        self,
        play: str,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        output: int,
        errors: int,
        text: str = "",
    ) -> None:
        """Begin `play` (`module:function`, called without arguments) with these words as sys.argv, `text` as stdin."""
        with tempfile.TemporaryFile("w+") as given:
            given.write(text)
            given.seek(0)
            files = tuple(_Descriptor(number) for number in (given.fileno(), output, errors))
            self._begin((play, list(words), dict(env), str(cwd), files))

    def _begin(self, arguments: tuple[Any, ...]) -> None:
        self._process = _context.Process(target=_become, args=arguments, daemon=True)  # it does not outlive the tests
        self._process.start()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the signal that ended it, or None while it lives."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def send_signal(self, number: int) -> None:
        """Nothing, once it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. subprocess.TimeoutExpired: it lives on."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("gpuplan", timeout or 0)
        return code


class Forked(Living):
    """One whose output is read; with errors in `stdout` too, or `apart` in `stderr`."""

    def __init__(
        self, play: str, words: Sequence[str], *, env: Mapping[str, str], cwd: Path, apart: bool = False, text: str = ""
    ) -> None:
        reading, output = os.pipe()
        reading_errors, errors = os.pipe() if apart else (None, os.dup(output))
        super().__init__(play, words, env=env, cwd=cwd, output=output, errors=errors, text=text)
        os.close(output)
        os.close(errors)
        self.stdout: IO[str] = os.fdopen(reading)
        self.stderr: IO[str] | None = None if reading_errors is None else os.fdopen(reading_errors)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that it writes, to its end. subprocess.TimeoutExpired: it lived on, and was killed."""
        files = [file for file in (self.stdout, self.stderr) if file is not None]
        with ThreadPoolExecutor(len(files)) as readers:
            texts = [readers.submit(file.read) for file in files]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise
        for file in files:
            file.close()
        return texts[0].result(), "".join(text.result() for text in texts[1:])


class _Descriptor:
    """A file descriptor on its way to the child: it is duplicated when this is pickled."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (DupFd(self._number),)


def _arrived(duplicate: Any) -> int:
    return int(duplicate.detach())


def cloud(folder: Path, *, time_scale: float = 0.02, fixtures: Path | None = None) -> client.Rehearsal:
    """A rehearsal of its own, as `client.start` begins one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_spawn", spawn)
        return client.start(folder, time_scale=time_scale, idle_minutes=5, fixtures=fixtures)


def spawn(folder: Path, arguments: Sequence[str]) -> Living:
    """Stands in for `client._spawn`."""
    env, words = {"NUMBA_CACHE_DIR": str(WARM), **os.environ}, ["daemon", *arguments]
    with (folder / "daemon.log").open("ab") as log:
        started = Living(f"{__name__}:_daemon", words, env=env, cwd=folder, output=log.fileno(), errors=log.fileno())
    client._started[started.pid] = started  # type: ignore[assignment]  # poll() is all that is asked of it
    return started


def _daemon() -> None:
    from orchestrator.rehearsal.daemon import main

    os.setsid()
    sys.exit(main(sys.argv[1:]))


def script(
    path: Path, *words: str, env: Mapping[str, str], cwd: Path | None = None, text: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run one of the payload's scripts to its end, with `text` on its standard input."""
    process = started_script(path, *words, env=env, cwd=cwd, text=text)
    out, errors = process.communicate(timeout)
    return subprocess.CompletedProcess([str(path), *words], process.wait(), out, errors)


def started_script(path: Path, *words: str, env: Mapping[str, str], cwd: Path | None = None, text: str = "") -> Forked:
    """The same, under way."""
    return Forked(f"{__name__}:_script", [str(path), *words], env=env, cwd=cwd or Path.cwd(), apart=True, text=text)


def _script() -> None:
    import numba

    numba.core.config.reload_config()  # the environment is another one
    sys.orig_argv = [sys.executable, *sys.argv]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


def _become(play: str, words: list[str], env: dict[str, str], cwd: str, files: Sequence[int]) -> None:
    """Be what a fresh interpreter would be, and end as it ends."""
    for place, descriptor in enumerate(files):
        os.dup2(descriptor, place)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, usual)  # whatever the tests themselves were started with
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = words
    module, _, function = play.partition(":")
    try:
        getattr(importlib.import_module(module), function)()
    finally:
        atexit._run_exitfuncs()
