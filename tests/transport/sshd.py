"""A private OpenSSH server on loopback: `private_sshd` is for every test that wants a real machine to talk to."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.transport import keys
from orchestrator.words.provider import Address
from tests import counted

START_S = 10.0


@dataclass
class Known:
    """Host keys in memory."""

    keys: dict[str, str] = field(default_factory=dict)

    def get(self, host_port: str) -> str | None:
        return self.keys.get(host_port)

    def put(self, host_port: str, key: str) -> None:
        self.keys[host_port] = key


@dataclass(frozen=True)
class Sshd:
    """A running server: `home` is what its sessions have as HOME, `workspace` as WORKSPACE."""

    address: Address
    key_file: Path
    home: Path
    workspace: Path
    pid: int  # of the listener
    folder: Path

    def sessions(self) -> list[int]:
        """The server's processes that stand for connections."""
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def cut(self) -> None:
        """Drop every connection; what they started in sessions of its own goes on."""
        _kill(self.sessions())

    def started(self) -> list[int]:
        """Every living process that one of its sessions has started, detached ones too (Linux)."""
        mark = f"WORKSPACE={self.workspace}\0".encode()
        return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if mark in _content(entry / "environ")]

    def command_lines(self) -> list[bytes]:
        """Of each of those processes, its arguments, NUL-separated."""
        return [_content(Path(f"/proc/{pid}/cmdline")) for pid in self.started()]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # the process has just ended, or is another user's
        return b""


@contextmanager
def private_sshd(tmp_path: Path, env: Mapping[str, str] | None = None, options: Sequence[str] = ()) -> Iterator[Sshd]:
    """Run a server with its own host key; `env` is added to what its sessions see, `options` to its configuration.

    Skips the test where there is no sshd.
    """
    program = shutil.which("sshd", path=f"/usr/sbin:/usr/local/sbin:{os.environ['PATH']}")
    if program is None:
        pytest.skip("there is no OpenSSH server on this machine")
    folder = tmp_path / "sshd"
    home, workspace = folder / "home", folder / "workspace"
    for path in (folder, home, workspace):
        path.mkdir(parents=True, exist_ok=True)
    (home / ".gpuplan").mkdir(mode=0o700, exist_ok=True)
    (home / ".gpuplan/environ").write_bytes(b"")  # nothing of the first process of the computer that this runs on
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    public = keys.ensure_key_pair(folder / "client")
    (folder / "authorized_keys").write_text(public + "\n")
    keys.ensure_key_pair(folder / "host")
    port = _free_port()
    address = Address("127.0.0.1", port, getpass.getuser())
    shown = {"HOME": str(home), "WORKSPACE": str(workspace), **(env or {})}
    if counted.SETTINGS in os.environ:
        usual = shown.get("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        shown["PATH"] = counted.first_in(usual, folder / "counted")
    (folder / "config").write_text("\n".join([*_config(folder, port, shown), *options, ""]))
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "config")], stdout=log, stderr=log)
    sshd = Sshd(address, keys.key_file(folder / "client"), home, workspace, server.pid, folder)
    try:
        _await(port, server, folder / "log")
        yield sshd
    finally:
        sshd.cut()
        server.terminate()
        server.wait(10)
        while left := sshd.started():
            _kill(left)


def _config(folder: Path, port: int, env: Mapping[str, str]) -> list[str]:
    return [
        f"ListenAddress 127.0.0.1:{port}",
        f"HostKey {_quoted(str(keys.key_file(folder / 'host')))}",
        f"AuthorizedKeysFile {_quoted(str(folder / 'authorized_keys'))}",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "Subsystem sftp internal-sftp",
        "SetEnv " + " ".join(_quoted(f"{name}={text}") for name, text in env.items()),
    ]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _await(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + START_S
    while time.monotonic() < limit:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"sshd does not start: {log.read_text()}")
