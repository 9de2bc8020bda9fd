"""The real `hf` program against the rehearsal's hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from orchestrator.rehearsal.faults import Switchboard

TOKEN = "hf_rehearsal"


class Served:
    """The hub's address, its switches, and the real `hf` program against it."""

    def __init__(self, endpoint: str, switches: Switchboard, home: Path) -> None:
        self.endpoint = endpoint
        self.switches = switches
        self._home = home

    def download(
        self, repo: str, to: Path, token: str | None = None, *, within_s: float = 60.0, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `hf download`, with more in its environment. subprocess.TimeoutExpired: it was killed."""
        env = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HOME": str(self._home),
            "PATH": os.environ["PATH"],
        } | ({"HF_TOKEN": token} if token else {})
        env |= more
        command: list[str | Path] = [Path(sys.executable).parent / "hf", "download", repo, "--local-dir", to]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=within_s)
