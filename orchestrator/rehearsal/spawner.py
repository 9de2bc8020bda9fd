"""The daemon's side of a machine's first process: start commands there, hear of their end, end all of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.rehearsal import confine, processes
from orchestrator.rehearsal.first_process import HEADER

KILLED = -9  # what is said of commands whose first process is gone


@dataclass
class Child:
    """A command that runs: its process group has its pid."""

    pid: int
    ended: asyncio.Future[int]

    async def wait(self) -> int:
        """Return the exit code; below zero: the signal that ended it."""
        return await asyncio.shield(self.ended)


class Spawner:
    """One machine's processes."""

    def __init__(self, writes: Sequence[Path], reads: Sequence[Path]) -> None:
        """`writes`, `reads`: the folders that the machine is confined to, beside the system's (confine.py)."""
        self._socket, theirs = socket.socketpair()
        root = str(Path(orchestrator.__file__).resolve().parent.parent)
        places = {
            "writes": [str(path) for path in writes],
            "reads": [*map(str, reads), *confine.python_places(root)],
        }
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-S", "-m", "orchestrator.rehearsal.first_process",
                 str(theirs.fileno()), json.dumps(places)],
                pass_fds=(theirs.fileno(),), env={"PYTHONPATH": root, "PATH": os.defpath}, cwd="/",
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._socket.setblocking(False)
        self._numbers = itertools.count()
        self._sending = asyncio.Lock()
        self._asked: dict[int, asyncio.Future[Child]] = {}
        self._running: dict[int, Child] = {}
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    @property
    def pid(self) -> int:
        """Of the machine's first process."""
        return self._process.pid

    def below(self) -> Callable[[processes.Process], bool]:
        """A test for the first process's own children: with their descendants, all of the machine."""
        pid = self.pid
        return lambda process: process.parent == pid

    async def start(
        self, command: list[str], *, cwd: Path, env: dict[str, str], descriptors: tuple[int, int, int]
    ) -> Child:
        """Start a command in a session of its own. OSError: it cannot be started, or the machine is going down."""
        number = next(self._numbers)
        body = json.dumps({"id": number, "command": command, "cwd": str(cwd), "env": env}).encode()
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[Child] = loop.create_future()
        async with self._sending:  # one request after the other, each whole
            self._asked[number] = asked
            while True:
                try:
                    socket.send_fds(self._socket, [len(body).to_bytes(HEADER, "big")], descriptors)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.001)
            await loop.sock_sendall(self._socket, body)
        return await asked

    async def _listen(self) -> None:
        pending = b""
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._socket, 65536):
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    self._heard(json.loads(line))
        except OSError:
            pass  # as if it had closed
        finally:
            for asked in self._asked.values():
                asked.set_exception(ConnectionError("the machine is going down"))
            for child in self._running.values():  # still there only when the first process was killed by somebody
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.ended.set_result(KILLED)
            self._asked.clear()
            self._running.clear()

    def _heard(self, answer: dict[str, Any]) -> None:
        number = answer["id"]
        if "code" in answer:
            self._running.pop(number).ended.set_result(answer["code"])
            return
        asked = self._asked.pop(number)
        if "error" in answer:
            asked.set_exception(OSError(answer["error"]))
            return
        child = self._running[number] = Child(answer["pid"], asyncio.get_running_loop().create_future())
        asked.set_result(child)

    async def close(self) -> None:
        """End every process of the machine, and its first."""
        await asyncio.to_thread(processes.end, self.below())
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._socket.close()
        await asyncio.to_thread(self._process.wait)
