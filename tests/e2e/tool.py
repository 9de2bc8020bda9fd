"""gpuplan as its user runs it: a process with a home of its own, signals, and the rehearsed cloud beside it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.rehearsal import client

PROJECT = Path(__file__).resolve().parents[2]
PLANS = PROJECT / "tests" / "plans"
GPUPLAN = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
KILLER = [sys.executable, str(Path(__file__).with_name("killer.py"))]


@dataclass
class Tool:
    """One GPUPLAN_HOME, and a rehearsed cloud that outlives the commands."""

    home: Path
    cloud: client.Rehearsal

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a command."""
        return os.environ | {"GPUPLAN_HOME": str(self.home), "GPUPLAN_REHEARSAL": str(self.cloud.file)} | more

    def run(
        self, *args: str, timeout: float = 120, cwd: Path | None = None, program: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in its home or elsewhere. `program`: Python text in place of the tool's entry."""
        words = [sys.executable, "-c", program] if program else GPUPLAN
        return subprocess.run(
            [*words, *args], env=self.env(**env), capture_output=True, text=True, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL, cwd=cwd or self.home,
        )  # fmt: skip

    def start(self, *args: str, killed_at: str = "", program: str = "", **env: str) -> subprocess.Popen[str]:
        """Start a command. `killed_at`: it kills itself with SIGKILL when it comes to that recorded effect.

        `program`: see `run`.
        """
        words = [sys.executable, "-c", program] if program else GPUPLAN
        words = [*KILLER, killed_at] if killed_at else words
        return subprocess.Popen(
            [*words, *args], env=self.env(**env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            stdin=subprocess.DEVNULL, cwd=self.home,
        )  # fmt: skip

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read the ledger; [] while there is none."""
        try:
            file = f"file:{self.home / 'gpuplan.db'}?mode=ro"
            with closing(sqlite3.connect(file, uri=True, timeout=10)) as db:
                return db.execute(sql, values).fetchall()
        except sqlite3.OperationalError:
            return []

    def status(self, *args: str) -> dict[str, Any]:
        """The document of `gpuplan status --json`."""
        return json.loads(self.run("status", "--json", *args).stdout)

    def cost(self) -> dict[str, Any]:
        """The document of `gpuplan cost --json`."""
        return json.loads(self.run("cost", "--json").stdout)

    def creates(self) -> list[str]:
        """The names of every machine that was ever created in the cloud."""
        return [e["name"] for e in self.cloud.log() if e["action"] == "create-machine"]


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for something that another process does; fails loudly when it does not come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds} s")


def ended(process: subprocess.Popen[str], *signals: int, seconds: float = 90) -> tuple[int, str]:
    """Send the signals, half a second apart, and wait for the end: exit code and output."""
    for number in signals:
        process.send_signal(number)
        time.sleep(0.5)
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
