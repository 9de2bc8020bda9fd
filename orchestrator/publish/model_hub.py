"""The model hub, by the user's own hf: files go up under names, the token in that process's environment alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orchestrator.publish.programs import CLOUDS, GITHUB, Program
from orchestrator.words.secret import Secret

TOKEN = "HF_TOKEN"  # noqa: S105  the variable's name


class ModelHub:
    """What hf does for whoever has the token. `env`: what it gets besides."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "NO_COLOR": "1"}
        self._hf = Program("hf", GITHUB | CLOUDS, {**quiet, **(env or {})})

    @property
    def is_there(self) -> bool:
        """Whether hf is in PATH."""
        return self._hf.is_there

    def upload(self, repo: str, file: Path, name: str, token: Secret, *, seen: bool) -> None:
        """Have the repository hold this file under that name; the repository is made where there is none.

        What it has already is not sent again. `seen`: hf's own progress is shown. StepFailed: hf's words.
        """
        words = ("--repo-type", "model", "--commit-message", f"Upload {name}")
        self._hf("upload", repo, str(file), name, *words, secrets={TOKEN: token}, within_s=None, seen=seen)
