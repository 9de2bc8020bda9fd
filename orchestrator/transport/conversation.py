"""A command that goes on and is talked with: the road for many requests over one channel."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from orchestrator.transport.limits import LONGEST_LINE
from orchestrator.transport.refusals import AgentFailed
from orchestrator.words.errors import ConnectionLost

if TYPE_CHECKING:
    import paramiko

CHUNK = 1 << 16


class Conversation(Protocol):
    """A command whose output is read in one thread, and whose standard input is written to in any."""

    def say(self, data: bytes) -> None:
        """Add to its standard input, which it reads when it likes: this never waits."""
        ...

    def lines(self) -> Iterator[bytes]:
        """Each line of its output, stderr's too, without the newline, until it ends; one thread may ask, once.

        ConnectionLost: the connection went first. AgentFailed: a line has no end.
        """
        ...

    def exit(self) -> int:
        """The exit code, after the last line. ConnectionLost: none came."""
        ...

    def close(self) -> None:
        """Give the command up: whoever reads its lines is woken. Idempotent."""
        ...


@runtime_checkable
class Converses(Protocol):
    """What a Transport may be able to do besides."""

    def converse(self, command: str) -> Conversation:
        """Start a command to talk with. ConnectionLost: the machine is not reached."""
        ...


class ChannelConversation:
    """A Conversation on an SSH channel, whose stderr is part of its output. It has one thread, which writes."""

    def __init__(
        self,
        channel: paramiko.Channel,
        exit_code: Callable[[], int],
        losses: Callable[[], AbstractContextManager[None]],
        give_back: Callable[[], None],
    ) -> None:
        """`losses` makes ConnectionLost of whatever goes wrong within it; `give_back` is called once, at the end."""
        self._channel, self._exit_code, self._losses = channel, exit_code, losses
        self._give_back = give_back
        self._unsaid: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        threading.Thread(target=self._write, name="ssh stdin", daemon=True).start()

    def say(self, data: bytes) -> None:
        """See Conversation."""
        self._unsaid.put(data)

    def lines(self) -> Iterator[bytes]:
        """See Conversation."""
        found: list[bytes] = []
        cut = Lines(found.append)
        while True:
            with self._losses():
                data = self._channel.recv(CHUNK)
            if not data:
                cut.finish()
                yield from found
                return
            cut.feed(data)
            yield from found
            found.clear()

    def exit(self) -> int:
        """See Conversation."""
        with self._losses():
            return self._exit_code()

    def close(self) -> None:
        """See Conversation."""
        with self._closing:
            closed, self._closed = self._closed, True
        if not closed:
            self._unsaid.put(None)
            with contextlib.suppress(ConnectionLost), self._losses():  # there is nobody to tell
                self._channel.close()
            self._give_back()

    def _write(self) -> None:
        while (data := self._unsaid.get()) is not None:
            try:
                self._channel.sendall(data)
            except (OSError, EOFError):  # the command ended, or the connection: the reader finds out which
                return


class Lines:
    """Cuts one output into lines. AgentFailed: a line is longer than `longest`."""

    def __init__(self, on_line: Callable[[bytes], None], longest: float = LONGEST_LINE) -> None:
        self._on_line, self._rest, self._longest = on_line, bytearray(), longest

    def feed(self, data: bytes) -> None:
        """Hand over the lines that are whole."""
        first, *others = data.split(b"\n")
        self._rest += first
        if len(self._rest) > self._longest:
            raise AgentFailed("flood", "the machine's answer has a line without an end")
        for following in others:
            self._on_line(bytes(self._rest))
            self._rest = bytearray(following)

    def finish(self) -> None:
        """Hand over a last line without newline."""
        if self._rest:
            self._on_line(bytes(self._rest))


def end_input(channel: paramiko.Channel) -> None:
    """Say that nothing more will be sent to a command, which may end this very moment.

    paramiko itself lets go of the channel between making this message and sending it: the connection's thread may then
    answer the server's end of the channel first, and OpenSSH ends the whole connection over a word on a channel that is
    no more. While keys are renewed that thread may not be waited for: then it is done as paramiko does.
    """
    mine: Any = channel  # its types know no more than is public
    if not mine.transport.clear_to_send.is_set():
        channel.shutdown_write()
        return
    with mine.lock:
        if message := mine._send_eof():  # noqa: SLF001 - there is no other way to send it in one step
            mine.transport._send_user_message(message)  # noqa: SLF001


def lost(address: object, error: Exception) -> ConnectionLost:
    """The error that a failure of the connection to that address stands for."""
    return ConnectionLost(f"the connection to {address} was lost: {error or type(error).__name__}")
