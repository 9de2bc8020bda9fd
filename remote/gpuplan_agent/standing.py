"""The standing agent: many requests at the same time over one pair of pipes, each in a fork of this process.

It exists to save the start of an interpreter for each request. Lines from the controller:
  {"id": N, "request": {...}}   carry it out
  {"id": N, "taken": BYTES}     so much of what was said to N has been dealt with: as much more may be said
  {"id": N, "cancel": true}     nobody listens to N any more
and to it:
  {"id": N, "line": {...}}      what the request is answered with, line by line, as an agent of its own would say it
  {"id": N, "said": "..."}      anything else that came from there: the last words of an interpreter
  {"id": N, "exit": CODE}       the request has ended; nothing of it follows
It ends with its standard input, that is with the connection, and what runs then ends as it does when a pipe breaks.
"""

from __future__ import annotations

import collections
import importlib
import json
import os
import select
import sys
from typing import Any, Callable

WINDOW = 1 << 18  # bytes that may be said to a request and not be dealt with: one slow listener holds up nobody else
CHUNK = 1 << 16
IDLE_S = 600.0  # without a word, heartbeats included: the connection is dead, and nobody has told this machine
REAP_S = 5.0  # between two looks for the end of what nobody listens to
NO_AGENT = 97  # exit code: this agent has been removed from the disk and has to be installed again
# What the operations load only when they need it: loaded once here, and not in each fork.
NEEDED = {
    "start": ["gpuplan_agent.supervisor", "gpuplan_agent.watching", "ctypes"],
    "files": ["glob", "gpuplan_agent.hashing", "concurrent.futures"],
    "checksums": ["gpuplan_agent.hashing", "concurrent.futures"],
    "pack": ["glob", "concurrent.futures"],
    "hello": ["getpass"],
    "code": ["hashlib", "gpuplan_agent.hashing"],
}
PREPARED = ("put", "get")  # ... and whom connections trust, made once
Answer = Callable[[Any], Any]


class _Asked:
    """One request that is being carried out."""

    def __init__(self, number: int, pid: int, pipe: int) -> None:
        self.number, self.pid, self.pipe = number, pid, pipe
        self.owed = 0  # bytes that were said and not yet dealt with
        self.lines: collections.deque[bytes] = collections.deque()  # what is to be said
        self.rest = b""  # a line that is not whole yet
        self.ended = False  # nothing else comes


class Standing:
    """Reads requests from standard input until that ends."""

    def __init__(self, answer: Answer, modules: dict[str, str]) -> None:
        """`answer` carries out one request and returns its last line; `modules`: where each operation is."""
        self._answer, self._modules = answer, modules
        self._asked: dict[int, _Asked] = {}
        self._unheard: list[int] = []  # processes that nobody listens to
        self._heard = b""
        self._program = os.path.abspath(sys.argv[0])

    def serve(self) -> int:
        """Carry out whatever is asked for, until nobody is there to ask."""
        while True:
            poller = select.poll()
            poller.register(0, select.POLLIN)
            open_ones = {asked.pipe: asked for asked in self._asked.values() if asked.owed < WINDOW}
            for pipe in open_ones:
                poller.register(pipe, select.POLLIN)
            ready = [fd for fd, _ in poller.poll(1000 * (REAP_S if self._unheard else IDLE_S))]
            if not ready and not self._unheard:
                return 0
            self._reap()
            for fd in ready:
                if fd == 0:
                    if not self._hear():
                        return 0
                elif open_ones[fd].number in self._asked:  # not cancelled meanwhile
                    self._listen(open_ones[fd])

    def _hear(self) -> bool:
        """Do what the controller says; False: it has gone."""
        data = os.read(0, CHUNK)
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "request" in message:
                self._begin(message["id"], message["request"])
            elif message["id"] in self._asked:
                asked = self._asked[message["id"]]
                if "cancel" in message:
                    self._leave(asked)
                else:
                    asked.owed -= message["taken"]
                    self._pass_on(asked)
        return bool(data)

    def _begin(self, number: int, request: Any) -> None:
        if not os.path.exists(self._program):
            self._say(number, "exit", b"%d" % NO_AGENT)
            return
        self._load(request)
        pipe, output = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._carry_out(request, output, [pipe, *(asked.pipe for asked in self._asked.values())])
        os.close(output)
        self._asked[number] = _Asked(number, pid, pipe)

    def _load(self, request: Any) -> None:
        op = request.get("op") if isinstance(request, dict) else None
        if op in self._modules:
            for name in [f"gpuplan_agent.{self._modules[op]}", *NEEDED.get(op, [])]:
                importlib.import_module(name)
        if op in PREPARED:
            importlib.import_module("gpuplan_agent.uploads").tls()

    def _carry_out(self, request: Any, output: int, others: list[int]) -> None:
        """The fork's whole life: it has what an agent of its own would have, and none of what is this process's."""
        status = 1
        try:
            for fd in others:
                os.close(fd)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            sys.stdout.buffer.write(json.dumps(self._answer(request)).encode() + b"\n")
            sys.stdout.buffer.flush()
            status = 0
        except BrokenPipeError:  # nobody listens any more
            pass
        except BaseException:  # noqa: BLE001 - the controller is to hear of it
            import traceback

            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)

    def _listen(self, asked: _Asked) -> None:
        """Hear what the request's process says, or that it has ended."""
        data = os.read(asked.pipe, CHUNK)
        *lines, asked.rest = (asked.rest + data).split(b"\n") if b"\n" in data else [asked.rest + data]
        if not data and asked.rest:
            lines, asked.rest = [asked.rest], b""
        asked.lines.extend(lines)
        asked.ended = not data
        self._pass_on(asked)

    def _pass_on(self, asked: _Asked) -> None:
        """Hand on as much of that as may be said now, and its end after all of it."""
        while asked.lines and asked.owed < WINDOW:
            line = asked.lines.popleft()
            ours = line.startswith(b"{")
            told = line if ours else json.dumps(line.decode("utf-8", "replace")).encode()
            asked.owed += self._say(asked.number, "line" if ours else "said", told)
        if asked.ended and not asked.lines:
            _, status = os.waitpid(asked.pid, 0)
            os.close(asked.pipe)
            del self._asked[asked.number]
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
            self._say(asked.number, "exit", b"%d" % code)

    def _leave(self, asked: _Asked) -> None:
        """Close the request's pipe: its process ends at the next word that it says."""
        os.close(asked.pipe)
        del self._asked[asked.number]
        self._unheard.append(asked.pid)
        self._say(asked.number, "exit", b"0")

    def _reap(self) -> None:
        self._unheard = [pid for pid in self._unheard if os.waitpid(pid, os.WNOHANG)[0] == 0]

    @staticmethod
    def _say(number: int, key: str, value: bytes) -> int:
        """Send one line and return its length. BrokenPipeError: the controller has hung up."""
        data = b'{"id": %d, "%s": %s}\n' % (number, key.encode(), value)
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]
        return len(data)
