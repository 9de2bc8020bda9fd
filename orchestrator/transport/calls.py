"""How requests reach a machine's agent: over one that stands, or, where there is none, each by a call of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from orchestrator.transport import commands
from orchestrator.transport.conversation import Converses
from orchestrator.transport.limits import LONGEST_LINE
from orchestrator.transport.refusals import AgentFailed
from orchestrator.transport.standing import NeverAnswered, Standing
from orchestrator.words.errors import ConnectionLost
from orchestrator.words.transport import CommandResult, Transport


class Calls:
    """Requests to the agent of that hash. Thread-safe."""

    def __init__(self, transport: Transport, digest: str) -> None:
        self.single = commands.call_agent(digest).text
        self.standing = commands.call_agent(digest, "standing").text
        self._transport = transport
        self._opening = threading.Lock()
        self._stood: Standing | None = None
        self._stands = isinstance(transport, Converses)  # until it has shown that it does not

    @property
    def many(self) -> bool:
        """Whether several things may be asked for in one request: whoever answers single calls knows single things."""
        return self._stands

    def run(self, request: bytes, *, timeout_s: float) -> CommandResult:
        """One request that is answered at once. ConnectionLost: there is no whole answer in time."""
        deadline = time.monotonic() + timeout_s
        if (standing := self._standing()) is not None:
            said: list[bytes] = []
            try:
                code = standing.stream(
                    request, said.append, silence_s=timeout_s, timeout_s=deadline - time.monotonic(),
                    most_bytes=LONGEST_LINE, stop=lambda: False,
                )  # fmt: skip
                return CommandResult(code, b"".join(line + b"\n" for line in said), b"")
            except NeverAnswered as error:
                if error.code == commands.NO_AGENT:
                    return CommandResult(error.code, b"", b"")
                self._stands = False
            except AgentFailed as error:
                if error.code != "late":
                    raise
                raise ConnectionLost(f"no answer from the machine within {timeout_s:.0f} s") from error
        return self._transport.run(self.single, stdin=request, timeout_s=max(0.0, deadline - time.monotonic()))

    def stream(
        self,
        request: bytes,
        on_line: Callable[[bytes], None],
        *,
        silence_s: float,
        timeout_s: float,
        most_bytes: float,
        stop: Callable[[], bool],
    ) -> int:
        """One request that takes time; see Transport.stream."""
        deadline = time.monotonic() + timeout_s
        if (standing := self._standing()) is not None:
            try:
                return standing.stream(
                    request, on_line, silence_s=silence_s, timeout_s=deadline - time.monotonic(),
                    most_bytes=most_bytes, stop=stop,
                )  # fmt: skip
            except NeverAnswered as error:
                if error.code == commands.NO_AGENT:
                    return error.code
                self._stands = False
        return self._transport.stream(
            self.single, on_line, stdin=request, silence_s=silence_s, timeout_s=deadline - time.monotonic(),
            most_bytes=most_bytes, stop=stop,
        )  # fmt: skip

    def _standing(self) -> Standing | None:
        """The standing agent, started if there is none. None: there can be none. ConnectionLost."""
        with self._opening:
            if not self._stands or not isinstance(self._transport, Converses):
                return None
            if self._stood is None or not self._stood.alive:
                self._stood = Standing(self._transport.converse(self.standing))
            return self._stood
