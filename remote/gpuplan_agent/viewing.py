"""The live logs for people on the machine: a tmux session `gpuplan` that follows every job. Never required."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from typing import Any

from gpuplan_agent.jobfolder import RUNNING, JobFolder
from gpuplan_agent.places import home, search_path
from gpuplan_agent.processes import role_command
from gpuplan_agent.watching import Follower

SESSION = "gpuplan"
LONGEST_SILENCE_S = 3600.0  # on a machine that stays, the session ends by itself
LOOK_S = 0.5
TMUX_S = 10.0


def op_view(_request: dict[str, Any]) -> dict[str, Any]:
    """Start the session if it is not there; says how to attach to it ("" where there is no tmux)."""
    tool = shutil.which("tmux", path=search_path())
    if tool is None:
        return {"attach": ""}
    socket = os.path.join(home(), "tmux")  # of this machine alone: emulated machines share one user
    tmux = [tool, "-S", socket]
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run([*tmux, "has-session", "-t", SESSION], **quiet, timeout=TMUX_S, check=False).returncode:
        subprocess.run(
            [*tmux, "new-session", "-d", "-s", SESSION, *role_command("follow")], **quiet, timeout=TMUX_S, check=False
        )
    return {"attach": f"tmux -S {shlex.quote(socket)} attach -t {SESSION}"}


def main(_arguments: list[str]) -> int:
    """Print the logs of the jobs that run, and of those that start, until none has said anything for a long time."""
    followers: dict[str, Follower] = {}
    for folder in JobFolder.all():
        if folder.state() != RUNNING:
            followers[folder.path] = Follower(folder.path, sys.maxsize)
    shown, heard = "", time.monotonic()
    while time.monotonic() - heard < LONGEST_SILENCE_S:
        for folder in JobFolder.all():
            follower = followers.setdefault(folder.path, Follower(folder.path, 0))
            text, _ = follower.more()
            heard = time.monotonic() if text or folder.state() == RUNNING else heard
            if text and shown != folder.path:
                shown = folder.path
                print(f"\n==> {folder.json('request.json').get('job')} <==")
            if text:
                print(_printable(text), end="", flush=True)
        time.sleep(LOOK_S)
    return 0


def _printable(text: str) -> str:
    """What a job prints must not steer the terminal."""
    return "".join(char if char.isprintable() or char in "\n\r\t" else "?" for char in text)
