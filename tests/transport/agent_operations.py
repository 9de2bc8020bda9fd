"""Everything that can be asked of an agent, and what an honest one answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from orchestrator.transport.agent import Agent
from orchestrator.transport.job import Job
from orchestrator.words.source import SignedGet, Wanted
from orchestrator.words.store import Part, SignedPart
from orchestrator.words.transport import CommandResult

PART = SignedPart(Part(1, 0, 1, ""), "http://127.0.0.1:9/", {}, (200,))
OPERATIONS: dict[str, Callable[[Agent], object]] = {
    "hello": Agent.hello,
    "probe": lambda agent: agent.probe(1),
    "bootstrap": Agent.bootstrap,
    "code": lambda agent: agent.code("0" * 32, kept=False),
    "view": Agent.view,
    "heartbeat": lambda agent: agent.heartbeat(60, ""),
    "start": lambda agent: agent.start(Job(id="j", command="true", cwd="/", timeout_s=1)),
    "follow": lambda agent: agent.follow("j", 0, lambda _text, _offset: None, timeout_s=0.4),
    "stdout": lambda agent: agent.stdout("j", lambda _text: None, timeout_s=0.4),
    "stop": lambda agent: agent.stop("j", grace_s=0),
    "published": lambda agent: agent.published("j"),
    "used": Agent.used_bytes,
    "jobs": Agent.jobs,
    "files": lambda agent: agent.files("/", ["*"]),
    "read": lambda agent: agent.read("x"),
    "write": lambda agent: agent.write("x", ""),
    "names": lambda agent: agent.names("x"),
    "remove": lambda agent: agent.remove("x"),
    "clean_incomplete": lambda agent: agent.clean_incomplete("x"),
    "lease": lambda agent: agent.lease("v", "r", 1),
    "checksums": lambda agent: agent.checksums("/x", 1),
    "pack": lambda agent: agent.pack("x", ["x/**"]),
    "put": lambda agent: agent.put("/x", [PART]),
    "get": lambda agent: agent.get([Wanted("x", 9, "t", SignedGet("http://127.0.0.1:9/", {}))], lambda _line: None),
    "door": lambda agent: agent.door("127.0.0.1", 1, "w", 0.2, lambda _port: None),
    "knock": lambda agent: agent.knock("127.0.0.1", 9, "w", 0.2),
}
_END: dict[str, Any] = {
    "exit": 0, "signal": None, "oom": False, "timed_out": False, "stopped": False, "lost": False, "started": 1.5,
    "ended": 2, "log_bytes": 3, "peaks": {"gpu_memory_mib": 1.5}, "metrics": {"rate": {"value": 2.5}}, "cards": [],
}  # fmt: skip
_SAMPLE = {
    "at": 1.5, "disk_free_mib": 7, "progress": {"done": 1, "total": 2},
    "gpus": [{"index": 0.0, "memory_used_mib": 1.0, "memory_total_mib": 2.0, "utilisation": 3.0}],
}  # fmt: skip
_HELLO = {
    "agent": "a", "workspace": "/w", "python": "3.11", "boot_id": "", "cores": 1, "memory_mib": 1, "disk_free_mib": 1,
    "gpus": [{"index": 0, "name": "H100", "memory_mib": 81920}], "user": "root", "time": 1.5,
}  # fmt: skip
_PARTS = [{"number": 1, "offset": 0, "length": 1, "crc32": "AAAAAA=="}]
HONEST: dict[str, list[dict[str, Any]]] = {
    "hello": [_HELLO],
    "probe": [{"gpus": 1}],
    "bootstrap": [{"log": "made"}, {"venv": "/v"}],
    "code": [{"hashed": 1}, {"folder": "/w/.gpuplan/code/x"}],
    "view": [{"attach": "tmux"}],
    "heartbeat": [{}],
    "start": [{"state": "running"}],
    "follow": [{"log": "text", "offset": 4}, {"sample": _SAMPLE}, {"end": _END}],
    "stdout": [{"log": "text", "offset": 4}, {"end": _END}],
    "stop": [{"end": _END}],
    "published": [{"files": {"/w/a": "00"}}],
    "used": [{}, {"bytes": 1}],
    "jobs": [{"jobs": [{"job": "j", "state": "ended", "service": False, "end": _END}]}],
    "files": [{"hashed": 7}, {"files": [{"path": "a", "bytes": 1, "mtime": 1.5, "sha256": "00"}]}],
    "read": [{"text": "x"}],
    "write": [{}],
    "names": [{"names": ["a"]}],
    "remove": [{"removed": True}],
    "clean_incomplete": [{"removed": 1, "bytes": 1}],
    "lease": [{"expires": 1.5}],
    "checksums": [{"hashed": 1}, {"bytes": 1, "sha256": "00", "crc32": "AAAAAA==", "parts": _PARTS, "md5": None}],
    "pack": [
        {"hashed": 1},
        {"members": [{"path": "x/a", "bytes": 1, "sha256": "00"}]},
        {"bytes": 10240, "sha256": "00"},
    ],
    "put": [{"part": 1, "status": 200, "etag": "e", "bytes": 1, "range": ""}, {"stored": 1, "failed": 0}],
    "get": [{"file": 0, "arrived": 4}, {"file": 0, "arrived": 9, "done": True}, {"fetched": 1}],
    "door": [{"port": 4000}, {}, {"came": 1}],
    "knock": [{"why": ""}],
}


class Saying:
    """`Transport` to an agent that says these lines, whatever it is asked."""

    def __init__(self, *lines: bytes) -> None:
        self._lines = lines

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0) -> CommandResult:
        return CommandResult(0, b"".join(line + b"\n" for line in self._lines), b"")

    def stream(self, command: str, on_line: Callable[[bytes], None], **facts: Any) -> int:
        for line in self._lines:
            on_line(line)
        return 0

    def send(self, command: str, chunks: Iterable[bytes], *, timeout_s: float = 3600.0) -> CommandResult:
        return CommandResult(0, b"", b"")

    def fetch(self, path: str, offset: int = 0) -> Iterator[bytes]:
        yield b""

    def close(self) -> None:
        pass


def agent_that_says(*lines: bytes) -> Agent:
    """The controller's side of such an agent."""
    return Agent(Saying(*lines), workspace="/w")
