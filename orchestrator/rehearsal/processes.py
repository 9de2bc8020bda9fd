"""Finding and ending the processes of emulated machines. Standard library only: the guard lives on it.

A process belongs to a machine when its environment carries the machine's mark, when its group is one that was
recorded for the machine, or when an ancestor does. A mark survives setsid and double forks, which groups do not.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

MARK = "GPUPLAN_REHEARSAL_HOST"  # in the environment of all that runs on an emulated machine: the machine's folder
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table. `environ` is what the process was started with, NUL-separated."""

    pid: int
    parent: int
    group: int
    state: str
    environ: bytes


def table() -> dict[int, Process]:
    """Every process that can be seen now, by pid; zombies included (state Z)."""
    return _from_proc() if (PROC / "self" / "stat").exists() else _from_ps()


def _from_proc() -> dict[int, Process]:
    found: dict[int, Process] = {}
    for entry in os.listdir(PROC):  # noqa: PTH208 - a path object for each process costs more than the read
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123
                fields = file.read().rpartition(b") ")[2].split()
        except OSError:
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:  # noqa: PTH123
                environ = file.read()
        except OSError:
            environ = b""  # another user's, or a zombie's
        pid = int(entry)
        found[pid] = Process(pid, int(fields[1]), int(fields[2]), fields[0].decode(), environ)
    return found


def _from_ps() -> dict[int, Process]:
    """The same through ps, which shows the environment of the user's own processes behind the command."""
    import subprocess  # only here: the stand-ins start faster without

    everything = "-axEww" if sys.platform == "darwin" else "axeww"
    listing = subprocess.run(
        ["ps", everything, "-o", "pid=,ppid=,pgid=,state=,command="], capture_output=True, check=False
    ).stdout
    found: dict[int, Process] = {}
    for line in listing.splitlines():
        pid, parent, group, state, *command = line.split(None, 4)
        environ = command[0].replace(b" ", b"\0") + b"\0" if command else b""
        found[int(pid)] = Process(int(pid), int(parent), int(group), state.decode()[:1], environ)
    return found


def marked(folder: Path) -> Callable[[Process], bool]:
    """A test for processes that carry the mark of the machine whose folder this is, or of one below that folder.

    One that threw its environment away is still known by working below the folder.
    """
    needles = [f"{MARK}={folder}{end}".encode() for end in ("\0", "/")]
    needles += [needle.replace(b" ", b"\0") for needle in needles if b" " in needle]  # as _from_ps has it
    inside = f"{folder}/"
    return lambda process: (
        any(needle in process.environ for needle in needles) or _works_in(process.pid).startswith(inside)
    )


def _works_in(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115 - a path object for each process costs more than the read
    except OSError:
        return ""


def members(belongs: Callable[[Process], bool], groups: Iterable[int] = ()) -> set[int]:
    """The living processes that belong, that are in one of the groups, or that descend from such a process."""
    processes = table()
    recorded = set(groups)
    own = {process.pid for process in processes.values() if process.group in recorded or belongs(process)}
    grown = True
    while grown:
        children = {process.pid for process in processes.values() if process.parent in own} - own
        own |= children
        grown = bool(children)
    return {pid for pid in own if processes[pid].state != "Z"} - {os.getpid(), 1}


def end(belongs: Callable[[Process], bool], groups: Iterable[int] = (), *, deadline_s: float = 5.0) -> int:
    """Kill all members until none is left or the deadline passes. Returns how many live on (0: all are gone)."""
    groups = tuple(groups)
    limit = time.monotonic() + deadline_s
    left = members(belongs, groups)
    while left and time.monotonic() < limit:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.005)
        left = members(belongs, groups)
    return len(left)


def job_groups(folder: Path, *, since: float = 0.0) -> set[int]:
    """The process groups of a machine's jobs that have not ended, by the agent's own files.

    Each job's `pid` file holds the id of its session leader. Files older than `since` (unix seconds) are of an
    earlier boot: their numbers may be another process's by now.
    """
    groups = set()
    for file in folder.glob("home/.gpuplan/jobs/*/pid"):
        try:
            if not (file.parent / "exit.json").exists() and file.stat().st_mtime >= since:
                groups.add(int(file.read_text().split()[0]))
        except (OSError, ValueError, IndexError):
            continue  # being written or removed just now
    return groups
