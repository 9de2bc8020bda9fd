"""The Transport over SSH: short commands, streams and bulk data on raw channels of a few shared connections."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.transport import commands, openssh
from orchestrator.transport.conversation import ChannelConversation, Conversation, Lines, end_input, lost
from orchestrator.transport.limits import LONGEST_LINE, LONGEST_REPLY, require
from orchestrator.transport.link import PING_EVERY_S, PING_LIMIT_S, ChannelRefused, HostKeyStore, Link
from orchestrator.transport.refusals import AgentFailed
from orchestrator.words.errors import ConnectionLost
from orchestrator.words.provider import Address
from orchestrator.words.transport import CommandResult

if TYPE_CHECKING:
    import paramiko

CHUNK = 1 << 16
FETCH_SILENCE_S = 60.0
LITTLE = 8 << 20  # bytes that come by a channel: another connection takes as long
# Bytes under way: 200 ms of distance at 300 MB/s. As many are taken at a time: what a channel keeps is moved whole when
# its beginning is taken away, so that who reads in small pieces, once behind, falls ever further behind.
FETCH_WINDOW = 64 << 20
STOP_LOOK_S = 0.1  # how often a stream asks whether it is to stop
EXIT_S = 10.0  # between the end of the output and the exit code
DYING_S = 0.5  # how long a lost connection takes from closing its channels to being inactive
INLINE_STDIN = 1 << 16  # as much as always fits into a channel's window: sent without a thread
MOST_REFUSALS = 5  # of a channel, each on another connection
SIGNALLED = -1


class SshTransport:
    """One machine over SSH (implements Transport and Converses). Thread-safe.

    Nothing is connected before the first call.
    """

    def __init__(
        self,
        address: Address | Callable[[], Address],
        key_file: Path,
        known: HostKeyStore,
        *,
        ping_every_s: float = PING_EVERY_S,
        ping_limit_s: float = PING_LIMIT_S,
    ) -> None:
        """A callable address is asked again before every connection: it may have changed."""
        self._address = address
        self._key_file, self._known = key_file, known
        self._ping_every_s, self._ping_limit_s = ping_every_s, ping_limit_s
        self._links: list[Link] = []
        self._lock = threading.Lock()  # guards the list and the counts in it
        self._connecting = threading.Lock()  # one connection is made at a time
        self._closed = False

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0) -> CommandResult:
        """See Transport."""
        with self._channel(command) as channel:
            return self._collect(channel, [stdin] if stdin else [], timeout_s)

    def send(self, command: str, chunks: Iterable[bytes], *, timeout_s: float = 3600.0) -> CommandResult:
        """See Transport. An error of the iterator's own is raised here."""
        with self._channel(command) as channel:
            return self._collect(channel, chunks, timeout_s)

    def stream(
        self,
        command: str,
        on_line: Callable[[bytes], None],
        *,
        stdin: bytes = b"",
        silence_s: float = 60.0,
        timeout_s: float = float("inf"),
        most_bytes: float = LONGEST_REPLY,
        stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """Hand over each line (without its newline; stderr's too) as it comes and return the exit code."""
        deadline = time.monotonic() + timeout_s
        longest = min(LONGEST_LINE, most_bytes)
        printed, said = (
            Lines(on_line, longest),
            Lines(on_line, longest),
        )  # the two outputs reach us apart: lines stay whole
        with self._channel(command) as channel:
            _Writer(channel, [stdin] if stdin else [])
            for data in self._output(
                channel, silence_s, deadline=deadline, most_bytes=most_bytes, on_stderr=said.feed, stop=stop
            ):
                if data is None:
                    return SIGNALLED
                printed.feed(data)
            printed.finish()
            said.finish()
            return self._exit(channel)

    def fetch(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a remote file from `offset` on. FileNotFoundError: there is none.

        What is large comes by a connection of OpenSSH's own, if there is one.
        """
        at = offset
        for data in self._by_channel(path, commands.fetch(path, at, LITTLE).text):
            at += len(data)
            yield data
        if at < offset + LITTLE:
            return
        address = self._address() if callable(self._address) else self._address
        host_key = self._known.get(f"{address.host}:{address.port}")
        closed = lambda: self._closed  # noqa: E731  one line
        try:
            yield from openssh.fetch(address, self._key_file, host_key, path, at, FETCH_SILENCE_S, closed)
        except openssh.NothingCame:
            yield from self._by_channel(path, commands.fetch(path, at).text)

    def _by_channel(self, path: str, command: str) -> Iterator[bytes]:
        with self._channel(command, FETCH_WINDOW) as channel:
            _Writer(channel, [])
            said = self._output(channel, FETCH_SILENCE_S, most_bytes=float("inf"), piece=FETCH_WINDOW)
            for data in said:
                if data is not None:
                    yield data
            code = self._exit(channel)
        commands.require_fetched(path, code)

    def converse(self, command: str) -> Conversation:
        """See Converses."""
        link, channel = self._open(command)
        channel.set_combine_stderr(True)
        return ChannelConversation(
            channel, partial(self._exit, channel), partial(_losses, link), partial(self._give_back, link)
        )

    def close(self) -> None:
        """Close every channel and connection; calls that wait, and calls to come, end in ConnectionLost. Idempotent."""
        with self._lock:
            self._closed = True
            links, self._links = self._links, []
        for link in links:
            link.close()

    # --- channels ---

    @contextmanager
    def _channel(self, command: str, window: int | None = None) -> Iterator[paramiko.Channel]:
        """A channel on which the command runs. Whatever goes wrong with the connection becomes ConnectionLost."""
        link, channel = self._open(command, window)
        try:
            with _losses(link):
                yield channel
        finally:
            _shut(channel)
            self._give_back(link)

    def _open(self, command: str, window: int | None = None) -> tuple[Link, paramiko.Channel]:
        """Start a command. A connection that is dead or full before the command is sent is replaced."""
        import paramiko

        refused = dead = 0
        cause: Exception
        while True:
            link = self._take()
            try:
                return link, link.session(command, window)
            except ChannelRefused as error:  # this server allows fewer channels: those that are open go on
                self._give_back(link, full=True)
                refused, cause = refused + 1, error
            except (paramiko.SSHException, OSError, EOFError) as error:
                self._give_back(link)
                link.close()
                dead, cause = dead + 1, error
            if dead > 1 or refused > MOST_REFUSALS:
                raise ConnectionLost(
                    f"{link.address} does not start a command: {cause or type(cause).__name__}"
                ) from cause

    def _take(self) -> Link:
        """A place on a connection, on a new one if all are full."""
        found = self._find()
        if found:
            return found
        with self._connecting:
            found = self._find()
            if found:
                return found
            address = self._address() if callable(self._address) else self._address
            link = Link(
                address, self._key_file, self._known, ping_every_s=self._ping_every_s, ping_limit_s=self._ping_limit_s
            )
            with self._lock:
                if not self._closed:
                    self._links.append(link)
                    link.in_use += 1
                    return link
            link.close()
            raise ConnectionLost("the connection was closed")

    def _find(self) -> Link | None:
        with self._lock:
            if self._closed:
                raise ConnectionLost("the connection was closed")
            dead = [link for link in self._links if not link.alive]
            self._links = [link for link in self._links if link.alive]
            free = next((link for link in self._links if link.in_use < link.capacity), None)
            if free:
                free.in_use += 1
        for link in dead:
            link.close()
        return free

    def _give_back(self, link: Link, *, full: bool = False) -> None:
        """A place is free again; `full`: it never was one."""
        with self._lock:
            link.in_use -= 1
            if full:
                link.capacity = max(1, link.in_use)

    # --- data ---

    def _collect(self, channel: paramiko.Channel, chunks: Iterable[bytes], timeout_s: float) -> CommandResult:
        errors: list[bytes] = []
        writer = _Writer(channel, chunks)
        deadline = time.monotonic() + timeout_s
        said = self._output(channel, timeout_s, deadline=deadline, most_bytes=LONGEST_LINE, on_stderr=errors.append)
        try:
            output = [data for data in said if data]
        except AgentFailed as error:
            if error.code != "late":
                raise
            raise ConnectionLost(f"no answer from the machine within {timeout_s:.0f} s") from error
        code = self._exit(channel)
        if writer.error:
            raise writer.error
        return CommandResult(code, b"".join(output), b"".join(errors))

    def _output(
        self,
        channel: paramiko.Channel,
        silence_s: float,
        *,
        deadline: float = float("inf"),
        most_bytes: float = LONGEST_REPLY,
        piece: int = CHUNK,
        on_stderr: Callable[[bytes], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[bytes | None]:
        """What the command prints, up to `piece` bytes each, until it has closed its outputs. None: `stop` said so."""
        poller = select.poll()
        poller.register(channel.fileno(), select.POLLIN)
        heard = time.monotonic()
        asked = float("-inf")
        while True:
            ended = channel.eof_received or channel.closed  # asked before reading: nothing comes after it
            said = channel.recv_stderr(CHUNK) if channel.recv_stderr_ready() else b""
            on_stderr(said)
            data = channel.recv(piece) if channel.recv_ready() else b""
            if data:
                yield data
            now = time.monotonic()
            got = len(said) + len(data)
            most_bytes -= got
            if got:
                heard = now
            elif ended:
                return
            if now - asked >= STOP_LOOK_S:  # whatever comes in between: a flood must not keep us from looking
                asked = now
                if stop():
                    yield None
                    return
            require(quiet_s=now - heard, silence_s=silence_s, late=now > deadline, flooded=most_bytes < 0)
            if not got:
                poller.poll(1000 * max(0.0, min(STOP_LOOK_S, heard + silence_s - now, deadline - now)))

    def _exit(self, channel: paramiko.Channel) -> int:
        """The exit code; SIGNALLED if a signal ended the command."""
        channel.status_event.wait(EXIT_S)
        transport = channel.get_transport()
        if channel.exit_status == -1:  # a signal, or the end of a connection that closes its channels before it says so
            transport.join(DYING_S)
        if channel.exit_status == -1 and not (transport.is_active() and channel.status_event.is_set()):
            raise ConnectionLost("the connection was lost before the command's exit code came")
        return int(channel.exit_status)


@contextmanager
def _losses(link: Link) -> Iterator[None]:
    """Whatever goes wrong with the connection becomes ConnectionLost."""
    import paramiko

    try:
        yield
    except FileNotFoundError:
        raise
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise lost(link.address, error) from error


def _shut(channel: paramiko.Channel) -> None:
    """Close a channel. If its connection is gone there is nobody to tell."""
    import paramiko

    with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
        channel.close()


class _Writer:
    """Feeds a channel from a thread of its own, so that a command that answers early is heard."""

    def __init__(self, channel: paramiko.Channel, chunks: Iterable[bytes]) -> None:
        self.error: Exception | None = None  # the iterator's own
        self._channel, self._chunks = channel, iter(chunks)
        if isinstance(chunks, list) and sum(map(len, chunks)) <= INLINE_STDIN:
            self._work()
        else:
            threading.Thread(target=self._work, name="ssh stdin", daemon=True).start()

    def _work(self) -> None:
        """Send everything, then say that it was all."""
        while True:
            try:
                data = next(self._chunks, None)
            except Exception as error:  # noqa: BLE001 - handed to the thread that asked
                self.error = error
                _shut(self._channel)
                return
            try:
                if data is None:
                    end_input(self._channel)
                    return
                self._channel.sendall(data)
            except (OSError, EOFError):  # the command ended, or the connection: the reader finds out which
                return
