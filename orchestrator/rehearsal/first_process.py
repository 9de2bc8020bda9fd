"""Process 1 of an emulated machine: starts its commands, inherits its orphans, takes all of them with it.

`python -m orchestrator.rehearsal.first_process FD PLACES`: FD is one end of a socket pair whose other end only the
daemon holds; PLACES (JSON) are the folders that the machine may write and read: it is confined to them (confine.py).
A request is four bytes of length (carrying the command's three descriptors) and JSON; answers are JSON lines.
Standard library only, one thread: it starts in a few milliseconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from typing import Any

from orchestrator.rehearsal import confine, orphans, processes

HEADER = 4  # bytes: the length of the JSON that follows, big-endian


class FirstProcess:
    """The loop over requests and over children that have ended."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._running: dict[int, int] = {}  # request's number by pid

    def serve(self) -> None:
        """Until the daemon is gone, however it went; then end everything below."""
        waking, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            while True:
                ready: list[int] = select.select([self._socket.fileno(), waking], [], [])[0]
                if waking in ready:
                    os.read(waking, 4096)
                    self._bury()
                if self._socket.fileno() in ready and not self._request():
                    return
        except (ConnectionError, BrokenPipeError):
            return
        finally:
            me = os.getpid()
            processes.end(lambda process: process.parent == me)

    def _request(self) -> bool:
        """Start one command. False: the daemon is gone."""
        header, descriptors, _, _ = socket.recv_fds(self._socket, HEADER, 3)
        if not header:
            return False
        try:
            request = json.loads(self._exactly(int.from_bytes(header, "big")))
            try:
                # The object's own waiting is not used: every child, and every orphan, ends in _bury.
                child = subprocess.Popen(
                    request["command"], cwd=request["cwd"], env=request["env"], start_new_session=True,
                    stdin=descriptors[0], stdout=descriptors[1], stderr=descriptors[2],
                )  # fmt: skip
                child.returncode = 0
            except OSError as error:
                self._answer({"id": request["id"], "error": str(error)})
                return True
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._running[child.pid] = request["id"]
        self._answer({"id": request["id"], "pid": child.pid})
        return True

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            chunk = self._socket.recv(length - len(data))
            if not chunk:
                raise ConnectionError("the daemon is gone")
            data += chunk
        return data

    def _bury(self) -> None:
        """Collect all that have ended; tell of those that were asked for."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (number := self._running.pop(pid, None)) is not None:
                self._answer({"id": number, "code": os.waitstatus_to_exitcode(status)})

    def _answer(self, answer: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(answer).encode() + b"\n")


def main(descriptor: int, places: dict[str, list[str]]) -> None:
    """Be the first process of one machine."""
    confine.confine(places["writes"], places["reads"])
    orphans.adopt()
    # Handled, not ignored: what is ignored here would be ignored in every command.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)
    FirstProcess(descriptor).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
