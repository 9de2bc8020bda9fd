"""Ends whatever a rehearsal started, however its daemon dies. Standard library only; a process of its own.

`python -m orchestrator.rehearsal.guard FD FOLDER`: FD is the reading end of a pipe whose other end only the daemon
holds. When it closes, everything that the rehearsal in FOLDER started is killed, detached steps included.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import orchestrator
from orchestrator.rehearsal import processes

ROUNDS = 20  # a process that is being started while we look is found in the next round


def spawn(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a guard; return it and the pipe's end that is to stay open as long as the daemon lives."""
    reading, writing = os.pipe()
    env = os.environ | {"PYTHONPATH": str(Path(orchestrator.__file__).resolve().parent.parent)}
    command = [sys.executable, "-P", "-s", "-S", "-m", "orchestrator.rehearsal.guard"]
    command += [str(reading), str(folder.resolve())]
    process = subprocess.Popen(
        command, pass_fds=(reading,), env=env, cwd=folder, start_new_session=True, stdin=subprocess.DEVNULL
    )
    os.close(reading)
    return process, writing


def sweep(folder: Path, *, groups: bool = True) -> None:
    """Kill what a rehearsal in this folder left. `groups`: also by the numbers in its files, if they are fresh."""
    hosts, recorded = folder / "cloud/hosts", folder / "groups"
    numbers: set[int] = set()
    if groups:
        numbers = {int(file.name) for file in recorded.glob("*") if file.name.isdigit()}
        for host in hosts.glob("*"):
            with contextlib.suppress(OSError):
                numbers |= processes.job_groups(host, since=(host / "machine.json").stat().st_mtime)
    for _ in range(ROUNDS):
        if not processes.end(processes.marked(hosts), numbers):
            break
    for file in recorded.glob("*"):
        file.unlink(missing_ok=True)


def main(descriptor: int, folder: Path) -> None:
    """Wait for the daemon's end, however it comes, then end the rest."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(descriptor, 1):
        pass
    sweep(folder)
    (folder / "rehearsal.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
