"""The key pair of a GPUPLAN_HOME."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

from orchestrator.transport import keys

ROOT = Path(__file__).resolve().parents[2]


def test_a_pair_is_made_once(tmp_path: Path):
    """The private key is the user's alone, the public one is OpenSSH's text, and asking again changes nothing."""
    home = tmp_path / "a home"
    public = keys.ensure_key_pair(home)
    assert public.startswith("ssh-ed25519 ")
    assert stat.S_IMODE(keys.key_file(home).stat().st_mode) == 0o600
    assert keys.ensure_key_pair(home) == public
    derived = subprocess.run(["ssh-keygen", "-y", "-f", keys.key_file(home)], capture_output=True, check=True).stdout
    assert derived.decode().split()[:2] == public.split()[:2]


def test_a_lost_public_key_is_made_again(tmp_path: Path):
    """The public key follows from the private one."""
    public = keys.ensure_key_pair(tmp_path)
    (tmp_path / "id_ed25519.pub").unlink()
    assert keys.ensure_key_pair(tmp_path) == public


def test_two_processes_at_once_get_the_same_pair(tmp_path: Path):
    """However many begin at the same moment, there is one pair."""
    load = "import sys, pathlib; from orchestrator.transport import keys"
    code = f"{load}; print(keys.ensure_key_pair(pathlib.Path(sys.argv[1])))"
    running = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in running}) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"id_ed25519", "id_ed25519.pub"}
