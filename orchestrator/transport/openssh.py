"""Bulk data from a machine by the user's own ssh, where there is one: it decrypts several times as fast as Python."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.transport import commands
from orchestrator.transport.commands import known_hosts, ssh_argv
from orchestrator.words.errors import ConnectionLost
from orchestrator.words.provider import Address

PIECE = 1 << 20  # as much as Linux lets a pipe hold
LOOK_S = 0.1  # how often it is asked whether to stop
EXIT_S = 10.0  # between the end of the output and that of ssh
FAILED = 255  # ssh's own exit code
SETTINGS = (
    "BatchMode=yes",  # a question would wait for ever
    "LogLevel=ERROR",
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
    # Those that processors compute first: with ssh's own first choice a fetch takes a third longer.
    "Ciphers=aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr",
)


class NothingCame(Exception):
    """There is no ssh, or it could not connect: paramiko may."""


def fetch(
    address: Address,
    key_file: Path,
    host_key: str | None,
    path: str,
    offset: int,
    silence_s: float,
    is_closed: Callable[[], bool],
) -> Iterator[bytes]:
    """The bytes of a remote file from `offset` on. NothingCame; else as Transport.fetch does.

    `host_key`: TYPE BASE64, the only one that is accepted; None: there is none. It ends in ConnectionLost after
    `silence_s` without a byte, and when `is_closed()`.
    """
    if host_key is None or not shutil.which("ssh"):
        raise NothingCame
    came, code = False, FAILED
    with tempfile.NamedTemporaryFile("w", prefix="gpuplan-known-") as known:
        known.write(known_hosts(address, host_key))
        known.flush()
        argv = ssh_argv(address, key_file, Path(known.name), commands.fetch(path, offset).text, settings=SETTINGS)
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pipesize=PIECE,
            start_new_session=True,  # Ctrl-C is ours to hear
        ) as process:  # fmt: skip
            try:
                for piece in _read(process, silence_s, is_closed):
                    came = True
                    yield piece
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(EXIT_S)
            finally:
                process.kill()
    if code == FAILED and not came:
        raise NothingCame
    commands.require_fetched(path, code)


def _read(process: subprocess.Popen[bytes], silence_s: float, is_closed: Callable[[], bool]) -> Iterator[bytes]:
    assert process.stdout
    poller, heard = select.poll(), time.monotonic()
    poller.register(process.stdout, select.POLLIN)
    while not is_closed():
        if poller.poll(1000 * LOOK_S):
            piece = os.read(process.stdout.fileno(), PIECE)
            if not piece:
                return
            yield piece
            heard = time.monotonic()
        elif time.monotonic() - heard > silence_s:
            raise ConnectionLost(f"no answer from the machine within {silence_s:.0f} s")
    raise ConnectionLost("the connection was closed")
