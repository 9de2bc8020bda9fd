"""A step's own progress, from the file on the machine to the picture on the terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

from tests.e2e.tool import GPUPLAN, Tool

PLAN = """name: only
title: Say how far it is
machine: {gpu: [RTX-4090]}
timeout: 5m
steps:
  - name: tell
    run: |
      said='{"done": 62, "total": 100, "unit": "B", "rate": 1100000000, "left_s": 190, "what": "layers.3"}'
      echo "$said" > "$GPUPLAN_PROGRESS"
      sleep 4
    timeout: 1m
"""


def test_a_steps_progress_is_seen_on_the_terminal(tool: Tool, tmp_path: Path):
    """What a step writes to $GPUPLAN_PROGRESS stands below it in the live view; the run ends well."""
    folder = tmp_path / "plan"
    folder.mkdir()
    (folder / "gpuplan.yaml").write_text("budget_usd: 5\nstep_seconds: 1\n")
    (folder / "only.yaml").write_text(PLAN)
    words = [*GPUPLAN, "run", "all", "--plan", str(folder), "--dry-run", "--yes"]
    env = tool.env(TERM="xterm", COLUMNS="100", LINES="30")
    env.pop("CI", None)
    master, slave = pty.openpty()
    with subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=tool.home) as run:
        os.close(slave)
        seen = _read(master)
        run.wait(timeout=30)
    os.close(master)
    assert run.returncode == 0, seen
    assert "62 %, 1.1 GB/s, 3m 10s left, layers.3" in seen


def _read(master: int) -> str:
    """Everything on a pseudo-terminal until nobody holds its other end."""
    seen = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            data = os.read(master, 65536)
        except OSError:  # Linux says EIO where others say end of file
            break
        if not data:
            break
        seen += data
    return seen.decode("utf-8", "replace")
