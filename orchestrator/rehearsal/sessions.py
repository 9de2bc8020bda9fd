"""What one emulated machine answers over SSH: key login, commands over pipes, terminals, SFTP, ten sessions at most."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from orchestrator.rehearsal.sftp import WorkspaceSftp
from orchestrator.rehearsal.spawner import Child, Spawner

MAX_SESSIONS = 10  # sshd's MaxSessions: the eleventh channel of a connection is refused
BASH = "/bin/bash"
# Opening the terminal by name, as the leader of a new session, makes it the controlling one: no code of ours runs
# between fork and exec, which would not be safe beside threads.
TAKE_TERMINAL = 'exec <"$0" >"$0" 2>&1; exec "$@"'


@dataclass
class Login:
    """Who may log in and what a command finds there, and what is connected and running now."""

    user: str
    keys: list[asyncssh.SSHKey]
    env: dict[str, str]
    workspace: Path
    groups: Path  # a file for each process group that was started, named by it: the guard reads these
    spawner: Spawner
    touch: Callable[[], None]  # called for each sign of life of a client
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)
    running: set[asyncio.Task[None]] = field(default_factory=set)
    started: set[int] = field(default_factory=set)  # process groups


class MachineServer(asyncssh.SSHServer):  # type: ignore[misc]  # mypy skips asyncssh, so its classes are Any
    """One connection to the machine."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._sessions = 0
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Count the connection, so that it can be cut."""
        self._connection = conn
        self._login.connections.add(conn)
        self._login.touch()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        """Forget the connection."""
        self._login.connections.discard(self._connection)
        self._login.touch()

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - asyncssh's signature
        """Nobody gets in without a key."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are the only way in."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Accept the machine's user with one of the machine's keys."""
        return username == self._login.user and any(key == known for known in self._login.keys)

    def session_requested(self) -> tuple[asyncssh.SSHServerChannel, asyncssh.SSHServerProcess]:
        """Open one more session, or refuse it as sshd does."""
        if self._sessions >= MAX_SESSIONS or self._connection is None:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "open failed")
        self._sessions += 1
        channel = self._connection.create_server_channel(None, "strict")
        return channel, _Session(self._run, self._sftp, self._closed)

    def _closed(self) -> None:
        self._sessions -= 1

    def _sftp(self, channel: asyncssh.SSHServerChannel) -> WorkspaceSftp:
        self._login.touch()
        return WorkspaceSftp(channel, self._login.workspace)

    def _run(self, process: asyncssh.SSHServerProcess) -> None:
        self._login.touch()
        task = asyncio.get_running_loop().create_task(_serve(process, self._login))
        self._login.running.add(task)
        task.add_done_callback(self._login.running.discard)


class _Session(asyncssh.SSHServerProcess):  # type: ignore[misc]  # mypy skips asyncssh, so its classes are Any
    def __init__(
        self,
        run: Callable[[asyncssh.SSHServerProcess], None],
        sftp: Callable[[asyncssh.SSHServerChannel], WorkspaceSftp],
        closed: Callable[[], None],
    ) -> None:
        super().__init__(run, sftp, 3, True)
        self._on_closed = closed

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._on_closed()


async def _serve(process: asyncssh.SSHServerProcess, login: Login) -> None:
    """Run what a client asked for, to its end. A client that goes away ends nothing by itself."""
    if process.subsystem:
        process.exit(1)
        return
    command = [BASH, "-c", process.command] if process.command is not None else [BASH, "-l"]
    with contextlib.suppress(BrokenPipeError, ConnectionError, asyncssh.Error):
        if process.term_type is not None:
            await _on_terminal(process, command, login)
        else:
            await _on_pipes(process, command, login)


async def _start(command: list[str], login: Login, *, env: dict[str, str], fds: tuple[int, int, int]) -> Child:
    child = await login.spawner.start(command, cwd=login.workspace, env=env, descriptors=fds)
    login.started.add(child.pid)
    (login.groups / str(child.pid)).touch()
    return child


async def _ended(child: Child, login: Login) -> int:
    """Wait for a command's end; its group stays recorded while something that it left behind lives on."""
    code = await child.wait()
    try:
        os.killpg(child.pid, 0)
    except (ProcessLookupError, PermissionError):
        login.started.discard(child.pid)
        (login.groups / str(child.pid)).unlink(missing_ok=True)
    return code


async def _on_pipes(process: asyncssh.SSHServerProcess, command: list[str], login: Login) -> None:
    """Real pipes, never asyncio's readers: with those asyncssh cuts large outputs short."""
    stdin, to_stdin = os.pipe()
    from_stdout, stdout = os.pipe()
    from_stderr, stderr = os.pipe()
    try:
        child = await _start(command, login, env=login.env, fds=(stdin, stdout, stderr))
    except OSError as error:
        for fd in (to_stdin, from_stdout, from_stderr):
            os.close(fd)
        process.stderr.write(f"cannot start: {error}\n".encode())
        process.exit(127)
        return
    finally:
        for fd in (stdin, stdout, stderr):
            os.close(fd)
    # send_eof=False: the end of stdout would close the channel before stderr and the exit status are out.
    await process.redirect(None, from_stdout, from_stderr, send_eof=False)
    feeding = asyncio.ensure_future(_feed(process, to_stdin))
    written = asyncio.ensure_future(_written(process))
    gone = asyncio.ensure_future(process.channel.wait_closed())
    await asyncio.wait([written, gone], return_when=asyncio.FIRST_COMPLETED)
    code = await _ended(child, login)
    for waiter in (written, gone, feeding):
        waiter.cancel()
    await asyncio.gather(written, gone, feeding, return_exceptions=True)
    await _finish(process, code)


async def _feed(process: asyncssh.SSHServerProcess, to_stdin: int) -> None:
    """Hand the client's input over by hand: asyncio's pipe writer, which asyncssh redirects to, can lose its tail.

    (Its buffer runs empty, it asks for more, gets the rest and the end at once, and closes before writing that rest.)
    """
    os.set_blocking(to_stdin, False)
    try:
        while data := await _received(process):
            while data:
                try:
                    data = data[os.write(to_stdin, data) :]
                except BlockingIOError:
                    await _ready(to_stdin, write=True)
    except OSError:  # the command reads no more
        pass
    finally:
        os.close(to_stdin)


async def _received(process: asyncssh.SSHServerProcess) -> bytes:
    """The next input of the client; b"" at its end, or when the connection is lost."""
    while True:
        try:
            return bytes(await process.stdin.read(65536))
        except (asyncssh.SignalReceived, asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
            continue
        except asyncssh.Error:
            return b""


async def _written(process: asyncssh.SSHServerProcess) -> None:
    await process.stdout.drain()
    await process.stderr.drain()


async def _finish(process: asyncssh.SSHServerProcess, code: int) -> None:
    with contextlib.suppress(OSError):  # the client has gone
        if code >= 0:
            process.exit(code)
        else:
            process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    await process.wait_closed()


async def _on_terminal(process: asyncssh.SSHServerProcess, command: list[str], login: Login) -> None:
    controller, terminal = os.openpty()
    try:
        _resize(controller, process.term_size)
        name = os.ttyname(terminal)
        env = login.env | {"TERM": process.term_type or "xterm"}
        child = await _start(
            [BASH, "-c", TAKE_TERMINAL, name, *command], login, env=env, fds=(terminal, terminal, terminal)
        )
    finally:
        os.close(terminal)
    os.set_blocking(controller, False)
    typing = asyncio.ensure_future(_type(process, controller, child.pid))
    showing = asyncio.ensure_future(_show(process, controller))
    try:
        code = await _ended(child, login)
        await asyncio.wait([showing], timeout=1.0)  # a background process may hold the terminal open
    finally:
        for task in (typing, showing):
            task.cancel()
        await asyncio.gather(typing, showing, return_exceptions=True)
        os.close(controller)
    await _finish(process, code)


async def _type(process: asyncssh.SSHServerProcess, controller: int, group: int) -> None:
    """Hand over what is typed, resize with the client's window, hang up when the client goes."""
    while True:
        try:
            typed = await process.stdin.read(65536)
        except asyncssh.TerminalSizeChanged as change:
            _resize(controller, change.term_size)
            continue
        except asyncssh.SignalReceived as received:
            _signal(group, getattr(signal, f"SIG{received.signal}", signal.SIGTERM))
            continue
        except asyncssh.BreakReceived:
            continue
        except (asyncssh.Error, OSError):  # the connection is lost
            typed = b""
        if not typed:
            _signal(group, signal.SIGHUP)
            return
        while typed:
            await _ready(controller, write=True)
            try:
                typed = typed[os.write(controller, typed) :]
            except BlockingIOError:
                continue


async def _show(process: asyncssh.SSHServerProcess, controller: int) -> None:
    while True:
        await _ready(controller, write=False)
        try:
            shown = os.read(controller, 65536)
        except BlockingIOError:
            continue
        except OSError:  # Linux says EIO when the last process has let go of the terminal
            return
        if not shown:
            return
        process.stdout.write(shown)
        await process.stdout.drain()


async def _ready(fd: int, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(fd, _settle, ready)
    try:
        await ready
    finally:
        remove(fd)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _resize(controller: int, size: tuple[int, int, int, int]) -> None:
    columns, rows, width, height = size
    if columns and rows:
        fcntl.ioctl(controller, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
