"""Asking a machine's agent: who answers, how long that may take, and what no answer means."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from orchestrator.transport import bundle, commands
from orchestrator.transport.calls import Calls
from orchestrator.transport.limits import LONGEST_REPLY, Limits
from orchestrator.transport.refusals import NOISE, accept, broken, object_in, read
from orchestrator.words.errors import ConnectionLost, GpuplanError, StepFailed
from orchestrator.words.outside import quoted
from orchestrator.words.transport import CommandResult, Transport

T = TypeVar("T")
L = TypeVar("L")


@dataclass(frozen=True, slots=True)
class Streamed(Generic[T, L]):
    """What takes time: its name, the type of its last line, and that of the lines before."""

    name: str
    last: type[T]
    line: type[L]


class Asking:
    """What all requests have in common.

    ConnectionLost: the machine cannot be reached; what was asked for may have happened (all of it may be asked again).
    AgentFailed: it was reached and says no, or nothing that makes sense in its time; `code` tells why.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        workspace: str,
        source: Path | None = None,
        check: Callable[[], None] = lambda: None,
        limits: Limits = Limits(),  # noqa: B008  it never changes
    ) -> None:
        """`workspace` is where the provider mounts the volume; an emulated host knows better. `source`: remote/.

        `check` raises when what takes long is to be given up: it is asked while a machine hashes, sends or installs.
        """
        self._check, self._limits = check, limits
        self.transport = transport
        self.workspace = workspace
        self._bundle = bundle.load(source)
        self._calls = Calls(transport, self._bundle.digest)

    def install(self) -> None:
        """Push the agent if this version of it is not there; whole or not at all."""
        command = commands.install_agent(self._bundle.digest).text
        result = self.transport.send(command, [self._bundle.tar], timeout_s=self._patience())
        if result.exit:
            said = quoted(result.stderr[-NOISE:].decode("utf-8", "replace"))
            raise StepFailed(
                f"the agent cannot be installed on the machine: {said or f'exit code {result.exit}'}",
                remedy="the machine needs tar and Python 3.8 or newer",
            )

    # --- the wire ---

    def _request(self, op: str, facts: dict[str, Any]) -> bytes:
        return json.dumps({"op": op, "workspace": self.workspace, **facts}).encode()

    def _ask(self, op: str, kind: type[T], **facts: Any) -> T:
        """Ask for what is answered at once, as a `kind`. A connection that is cut meanwhile is made again, once."""
        request = self._request(op, facts)
        give_up = time.monotonic() + self._patience()

        def run() -> CommandResult:
            return self._calls.run(request, timeout_s=max(0.0, give_up - time.monotonic()))

        try:
            result = run()
        except ConnectionLost:
            if time.monotonic() >= give_up:
                raise
            result = run()
        if result.exit == commands.NO_AGENT:
            self.install()
            result = run()
        reply = object_in(result.stdout.rpartition(b"\n")[0].rpartition(b"\n")[2])
        if result.exit or reply is None:
            raise broken(op, result.exit, result.stderr or result.stdout[-200:])
        return accept(op, kind, reply)

    def _patience(self) -> float:
        """How long a request may take: less while the run is stopping."""
        return self._limits.stopping_s if self._halted() else self._limits.request_s

    def _stream(
        self,
        op: Streamed[T, L],
        facts: dict[str, Any],
        on_line: Callable[[L], None] = lambda _: None,
        *,
        silence_s: float | None = None,
        timeout_s: float | None = None,
        most_bytes: float = LONGEST_REPLY,
        stop: Callable[[], bool] | None = None,
    ) -> T | None:
        """Ask for what takes time; `on_line` gets every line before the last.

        None: `stop` turned true first. Without a `stop` of its own it raises what `check` raises.
        """
        request = self._request(op.name, facts)
        last: dict[str, Any] | None = None
        noise = b""

        def take(data: bytes) -> None:
            nonlocal last, noise
            reply = object_in(data)
            if reply is None:
                noise = data[-NOISE:]  # not ours: the interpreter's last words
            elif "ok" in reply:
                last = reply
            elif reply:
                said = read(op.name, op.line, reply)
                try:
                    on_line(said)
                except OSError as error:  # ours, not the connection's: a full disk at home, say
                    raise GpuplanError(f"what the machine says cannot be kept: {error}") from error

        def run() -> int:
            return self._calls.stream(
                request, take, silence_s=silence_s or self._limits.silence_s,
                timeout_s=self._limits.work_s if timeout_s is None else timeout_s, most_bytes=most_bytes,
                stop=stop or self._halted,
            )  # fmt: skip

        code = run()
        if code == commands.NO_AGENT:
            self.install()
            code = run()
        if last is not None:
            return accept(op.name, op.last, last)
        if stop is None:
            self._check()
        elif stop():
            return None
        raise broken(op.name, code, noise)

    def _halted(self) -> bool:
        try:
            self._check()
        except GpuplanError:
            return True
        return False

    @staticmethod
    def _complete(reply: T | None) -> T:
        assert reply is not None, "only a stream that can be stopped ends without a reply"
        return reply
