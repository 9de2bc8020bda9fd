"""What the dashboard's buttons do: `gpuplan down` and `gpuplan resume`, each as the command that anybody could type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from orchestrator.cli.background import PROGRAM

Kind = Literal["down", "resume"]
FLAGS: dict[Kind, list[str]] = {"down": ["--yes", "--json"], "resume": ["--yes", "--detach", "--json"]}
LONGEST = 4000  # characters of what a command said


@dataclass(frozen=True, slots=True)
class Action:
    """One command. `code` None: it goes on; `said`: what it says of itself, in words."""

    kind: Kind
    code: int | None = None
    said: str = ""


class Actions:
    """The last command of each run; a second one for the same run waits until the first has ended."""

    def __init__(self, home: Path) -> None:
        """`home`: that of the runs."""
        self._env = {**os.environ, "GPUPLAN_HOME": str(home)}
        self._lock = threading.Lock()
        self._last: dict[str, Action] = {}

    def last(self, run: str) -> Action | None:
        """What was asked for last; None: nothing."""
        return self._last.get(run)

    def start(self, run: str, kind: Kind) -> bool:
        """Begin; False: a command for this run goes on already. It outlives the dashboard."""
        with self._lock:
            last = self._last.get(run)
            if last is not None and last.code is None:
                return False
            words = [sys.executable, "-P", "-c", PROGRAM, kind, run, *FLAGS[kind]]
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                start_new_session=True, env=self._env,
            )  # fmt: skip
            self._last[run] = Action(kind)
        threading.Thread(target=self._follow, args=(run, process), daemon=True).start()
        return True

    def _follow(self, run: str, process: subprocess.Popen[str]) -> None:
        out, errors = process.communicate()
        self._last[run] = replace(self._last[run], code=process.returncode, said=_words(out, errors)[-LONGEST:].strip())


def _words(out: str, errors: str) -> str:
    """What a person is told: the error with its remedy, or what was said beside the document."""
    try:
        found = json.loads(out)
    except ValueError:
        return errors or out
    if isinstance(found, dict) and "error" in found:
        return f"{found['error']}\n{found.get('remedy', '')}"
    return errors
