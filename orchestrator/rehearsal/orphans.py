"""Processes that the machines leave without a parent. On Linux they become the daemon's: it buries and ends them.

Elsewhere they go to the system's first process, and the marks in their environment find them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Collection

from orchestrator.rehearsal import processes

PR_SET_CHILD_SUBREAPER = 36
_dead: set[int] = set()


def adopt() -> None:
    """Become the parent of every descendant whose own parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def bury() -> None:
    """Collect orphans that have ended.

    A child that this process started itself is collected at once by whoever waits for it: only what was dead in the
    round before, too, is an orphan.
    """
    me = os.getpid()
    found = {process.pid for process in processes.table().values() if process.parent == me and process.state == "Z"}
    for pid in found & _dead:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue
    _dead.clear()
    _dead.update(found)


def end_descendants(*, spare: Collection[int]) -> None:
    """Kill everything below this process but what is spared."""
    me = os.getpid()
    processes.end(lambda process: process.parent == me and process.pid not in spare)
