"""gpuplan as its user runs it: a process with a home of its own, signals, and the rehearsed cloud beside it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.rehearsal import client
from tests.forked import Forked

PROJECT = Path(__file__).resolve().parents[2]
PLANS = PROJECT / "tests" / "plans"
Process = Forked | subprocess.Popen[str]
GPUPLAN = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
TOOL, KILLER, CHANGED = "orchestrator.cli:main", "tests.e2e.killer:main", f"{__name__}:_changed"


@dataclass
class Tool:
    """One GPUPLAN_HOME, and a rehearsed cloud that outlives the commands."""

    home: Path
    cloud: client.Rehearsal

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a command."""
        return os.environ | {"GPUPLAN_HOME": str(self.home), "GPUPLAN_REHEARSAL": str(self.cloud.file)} | more

    def run(
        self,
        *args: str,
        timeout: float = 120,
        cwd: Path | None = None,
        program: str = "",
        changed: str = "",
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in its home or elsewhere. `program`, `changed`: see `start`."""
        process = self._begin(args, self.env(**env), cwd=cwd, program=program, changed=changed, apart=True)
        out, errors = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(args, process.wait(), out, errors)

    def start(self, *args: str, killed_at: str = "", program: str = "", changed: str = "", **env: str) -> Process:
        """Start a command. `killed_at`: it kills itself with SIGKILL when it comes to that recorded effect.

        `changed`: Python text that changes something in its process before it begins; `program`: such a text
        in place of the tool's entry, in an interpreter of its own.
        """
        return self._begin(args, self.env(**env), killed_at=killed_at, program=program, changed=changed)

    def _begin(
        self, args: tuple[str, ...], env: dict[str, str], *,
        cwd: Path | None = None, killed_at: str = "", program: str = "", changed: str = "", apart: bool = False,
    ) -> Process:  # fmt: skip
        folder = cwd or self.home
        if not program:
            play, words = (KILLER, ["killer", killed_at, *args]) if killed_at else (TOOL, ["gpuplan", *args])
            if changed:
                play, words = CHANGED, ["changed", changed, *args]
            return Forked(play, words, env=env, cwd=folder, apart=apart)
        return subprocess.Popen(
            [sys.executable, "-c", program, *args], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT, text=True, cwd=folder,
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


@dataclass(frozen=True)
class Finished:
    """A run that came to its end, in its own home: `tool` looks at it."""

    tool: Tool
    done: subprocess.CompletedProcess[str]


def _changed() -> None:
    """Called with the text that changes something, and the command's words."""
    from orchestrator.cli import main

    exec(sys.argv[1], {})
    sys.argv = ["gpuplan", *sys.argv[2:]]
    main()


def gpuplan(*words: str, env: Mapping[str, str], cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with this environment."""
    process = Forked(TOOL, ["gpuplan", *words], env=env, cwd=cwd, apart=True)
    out, errors = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(words, process.wait(), out, errors)


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for something that another process does; fails loudly when it does not come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds} s")


def ended(process: Process, *signals: int, seconds: float = 90) -> tuple[int, str]:
    """Send the signals, half a second apart, and wait for the end: exit code and output."""
    for number in signals:
        process.send_signal(number)
        time.sleep(0.5)
    output, _ = process.communicate(timeout=seconds)
    return process.wait(), output


INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
