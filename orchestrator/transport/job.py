"""What a job is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.words.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of a machine; it is started once for its `id`.

    `cwd` absolute; `timeout_s` None: as long as it takes; `clears`: what is removed before it begins, relative to the
    workspace and below its .gpuplan ("": nothing). `code`: hash of the code whose folder it finds as $GPUPLAN_CODE ("":
    none). `secrets` are set like `env`, and are in no file and in no log.
    """

    id: str
    command: str
    cwd: str
    timeout_s: float | None
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    service: bool = False
    clears: str = ""
    code: str = ""

    def facts(self) -> dict[str, Any]:
        """As the agent wants it. `clears` is not among it."""
        return {
            "job": self.id, "command": self.command, "cwd": self.cwd, "timeout_s": self.timeout_s, "env": self.env,
            "secrets": {name: secret.reveal() for name, secret in self.secrets.items()}, "service": self.service,
            "code": self.code,
        }  # fmt: skip
