"""An emulated machine sees its own folder and no process of the user's, where the system can do that."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.rehearsal import confine
from orchestrator.transport.ssh import SshTransport
from orchestrator.words.provider import Address
from tests.rehearsal.hosts.ssh_machines import Cloud
from tests.transport.sshd import Known

needs_landlock = pytest.mark.skipif(not confine.version(), reason=confine.how())


def said(tmp_path: Path, command: str) -> tuple[int, str]:
    """Exit code and output of a command on an emulated machine."""
    (tmp_path / "cloud").mkdir()
    cloud = Cloud(tmp_path / "cloud")
    host = cloud.boot()
    transport = SshTransport(Address(host.host, host.port, "root"), cloud.key, Known())
    try:
        done = transport.run(command)
    finally:
        transport.close()
        cloud.close()
    return done.exit, (done.stdout + done.stderr).decode()


@needs_landlock
def test_a_machine_reads_and_writes_none_of_the_users_files(tmp_path: Path):
    """A private key beside the machine's folder can neither be read, listed, replaced nor linked to."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "id_ed25519").write_text("private-7f3a")
    tries = (
        f"cat {mine}/id_ed25519",
        f"ls {mine}",
        f"touch {mine}/new",
        f"rm {mine}/id_ed25519",
        f"ln {mine}/id_ed25519 x",
    )
    _, output = said(tmp_path, "; ".join(f"{one} && echo REACHED" for one in tries) + "; true")
    assert "REACHED" not in output
    assert "private-7f3a" not in output
    assert sorted(path.name for path in mine.iterdir()) == ["id_ed25519"]


@needs_landlock
def test_a_machine_looks_into_no_process_of_the_users(tmp_path: Path):
    """Another process's environment and files cannot be read, nor can it be sent a signal."""
    other = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"CANARY": "private-7f3a"}, cwd=tmp_path
    )
    tries = f"cat /proc/{other.pid}/environ; ls /proc/{other.pid}/cwd/; kill -0 {other.pid} && echo SIGNALLED; true"
    _, output = said(tmp_path, tries)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert "private-7f3a" not in output
    assert "cloud" not in output
    assert "SIGNALLED" not in output


@needs_landlock
def test_a_confined_machine_works(tmp_path: Path):
    """Home, workspace, temporary files, shared memory, Python, git, links and renames are as on any machine."""
    command = """set -e
        cd "$WORKSPACE"; mkdir a b; echo 1 > a/x; mv a/x b/y; ln b/y a/z; ln -s b/y l; cat l
        git --version; python -c 'import numpy, multiprocessing; multiprocessing.Lock()'
        echo t > "$(mktemp)"; echo h > "$HOME/file"; cat <<< here > /dev/null; kill -0 $$
        cat /proc/self/environ | tr '\\0' ' '"""
    code, output = said(tmp_path, command)
    assert code == 0, output
    assert "WORKSPACE=" in output


def test_it_is_said_where_nothing_is_confined(monkeypatch: pytest.MonkeyPatch):
    """A system without Landlock confines nothing, does not fail, and says so."""
    monkeypatch.setattr(confine, "version", lambda: 0)
    confine.confine([], [])
    assert list(Path("/").iterdir())
    assert "NOT confined" in confine.how()
