"""A machine for the agent: a home and a workspace of its own, and requests as the controller would make them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import counted

AGENT = Path(__file__).resolve().parents[2] / "remote"
PYTHON = os.environ.get("GPUPLAN_AGENT_PYTHON")  # set it to an older one to test the agent there


class Machine:
    """Runs the agent in processes of its own, with nothing of the tester's home in sight."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.workspace = folder / "workspace"
        self.bin = folder / "bin"  # first in PATH
        for place in (self.home, self.workspace, self.bin):
            place.mkdir(parents=True)
        self.python = PYTHON or str(counted.python(folder / "counted"))
        path = counted.first_in(f"{Path(sys.executable).parent}:{os.environ['PATH']}", folder / "counted")
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:{path}",
            "WORKSPACE": str(self.workspace),
        }
        (self.home / ".gpuplan").mkdir(mode=0o700)
        self.environ = self.home / ".gpuplan" / "environ"
        self.environ.write_bytes(b"")  # nothing of the tester's container either

    @property
    def agent(self) -> list[str]:
        """The argument list that runs the agent once."""
        return [self.python, str(AGENT / "agent.py")]

    def begin(self, op: str, **facts: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self.agent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env)
        assert process.stdin is not None
        process.stdin.write(json.dumps({"op": op, "workspace": str(self.workspace), **facts}).encode())
        process.stdin.close()
        return process

    def lines(self, op: str, **facts: Any) -> list[dict[str, Any]]:
        return self.replies(self.begin(op, **facts))

    @staticmethod
    def replies(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
        """Every line that a request that was begun is answered with."""
        with process:
            assert process.stdout is not None
            try:
                return [json.loads(line) for line in process.stdout]
            except BaseException:  # the test's time is up: nobody waits for an agent that hangs
                process.kill()
                raise

    def ask(self, op: str, **facts: Any) -> dict[str, Any]:
        return self.lines(op, **facts)[-1]

    def start(self, job: str, command: str, **facts: Any) -> dict[str, Any]:
        request = {"cwd": str(self.workspace), "env": {}, "secrets": {}, "timeout_s": 60, "service": False}
        return self.ask("start", job=job, command=command, **{**request, **facts})

    def run(self, job: str, command: str, **facts: Any) -> tuple[str, dict[str, Any]]:
        """Start a job and watch it to its end: its log, and the end."""
        reply = self.start(job, command, **facts)
        assert reply["ok"], reply
        return self.watch(job)

    def watch(self, job: str, offset: int = 0) -> tuple[str, dict[str, Any]]:
        lines = self.lines("watch", job=job, offset=offset)
        assert lines[-1]["ok"], lines[-1]
        return "".join(line.get("log", "") for line in lines), lines[-1]["end"]

    def job(self, job: str) -> Path:
        return self.home / ".gpuplan" / "jobs" / job

    def logged(self, job: str) -> str:
        """What the job's log file says so far."""
        path = self.job(job) / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def tool(self, name: str, script: str) -> None:
        """Put a program in front of the machine's own."""
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def processes(self) -> dict[int, str]:
        """Every living process of this machine, by its environment, with its command line."""
        found = {}
        mark = f"HOME={self.home}\0".encode()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found


def eventually(holds: Callable[[], Any], within_s: float = 10.0) -> Any:
    """What `holds` returns as soon as it is true."""
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        if found := holds():
            return found
        time.sleep(0.01)
    pytest.fail(f"did not happen within {within_s} s")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One machine; nothing of it runs after the test."""
    made = Machine(tmp_path / "it's a machine")
    yield made
    for _ in range(100):
        left = made.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.01)
