"""Ranks as processes of their own, for tests: started, asked, and ended with the test."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests import forked
from tests.payload.runtime.runtime_scripts import PAYLOAD, command_of, environment_of

BOUND = 100.0  # seconds that any process may take to end, on a busy machine

Process = forked.Forked | subprocess.Popen[str]
Start = Callable[..., Process]


class Processes:
    """Starts scripts whose processes are ended with the block."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, script: str, *words: str, **environment: str) -> Process:
        """Start one of the payload's scripts."""
        return self._kept(forked.started_script(PAYLOAD / script, *words, env=environment_of(environment)))

    def begin(self, command: list[str], **environment: str) -> Process:
        """Start a command line."""
        return self._kept(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment_of(environment)
            )
        )

    def _kept(self, process: Process) -> Process:
        self._stack.callback(process.communicate)
        self._stack.callback(process.kill)
        return process


def listening(process: Process) -> int:
    """The port that a worker says it listens on."""
    line = process.stdout.readline()
    assert line.startswith("listening on port "), line + process.stderr.read()
    return int(line.split()[-1])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def files(folder: Path, name: str) -> list[str]:
    """The options that name a converted model."""
    return ["--model", str(folder / f"{name}.m"), "--tokenizer", str(folder / f"{name}.t")]


def long_text(folder: Path, *ports: int) -> list[str]:
    """Options of a run that takes far longer than a test: hot sampling seldom meets an end token."""
    addresses = ",".join(f"localhost:{port}" for port in ports)
    hot = ["--temperature", "50", "--topp", "1", "--seed", "1", "--max-tokens", "1900"]
    return [*files(folder, "base"), "--workers", addresses, "--prompt", "Benchmark test", *hot]


def wait_for_output(root: Process) -> None:
    """Wait until the root has written some text: all ranks are at work then."""
    assert root.stdout.read(20), root.stderr.read()


def metrics_of(path: Path) -> dict[str, dict[str, object]]:
    """What a process has published, by name."""
    return {line["name"]: line for line in map(json.loads, path.read_text().splitlines())}


def patched(script: str, patch: str) -> list[str]:
    """A command line that runs one of the payload's scripts after a change to it, given as Python."""
    path = command_of(script)[1]
    folder = str(Path(path).parent)
    code = f"import runpy, sys; sys.path.insert(0, {folder!r}); sys.argv = [{path!r}, *sys.argv[1:]]\n{patch}\n"
    return [sys.executable, "-c", code + f"runpy.run_path({path!r}, run_name='__main__')"]
