"""What the engine asks of a machine, over whatever leads there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a short command ended. `exit` is its code; -1: killed by a signal."""

    exit: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """One machine over SSH. Everything raises ConnectionLost when the machine cannot be reached or goes silent.

    StepFailed (transport.refusals.AgentFailed): it says more than makes sense, or streams beyond `timeout_s`.
    Safe to use from several threads; reconnects by itself at the next call. Commands are shell text already quoted.
    """

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0) -> CommandResult:
        """Run a short command to its end."""
        ...

    def stream(
        self,
        command: str,
        on_line: Callable[[bytes], None],
        *,
        stdin: bytes = b"",
        silence_s: float = 60.0,
        timeout_s: float = float("inf"),
        most_bytes: float = 64 << 20,
        stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """Run a command, hand over each line of its output as it comes, return its exit code.

        `timeout_s`, `most_bytes`: for all of the output, however it comes.
        ConnectionLost after `silence_s` without a byte. When `stop()` turns true the channel is closed and -1 returned.
        """
        ...

    def send(self, command: str, chunks: Iterable[bytes], *, timeout_s: float = 3600.0) -> CommandResult:
        """Run a command with `chunks` as its standard input: the road for bulk uploads (`tar x`)."""
        ...

    def fetch(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a remote file from `offset` on (FileNotFoundError: there is none)."""
        ...

    def close(self) -> None:
        """Close every channel and the connection. Idempotent."""
        ...
