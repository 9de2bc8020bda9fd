"""The payload: what is laid on the machine once per content, and checked again before it is used."""

from __future__ import annotations

import hashlib
import json
import posixpath
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.plan import Former
from orchestrator.transport import bundle, commands
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import StepFailed, UsageError

PLACE = ".gpuplan/payload"  # below the workspace: on the volume, so that the next machine finds it
BOOTSTRAP = "bootstrap.sh"
FORMER = "former.json"  # in the payload: its author's word on which earlier states gave the same results
SEND_S = 600.0


@dataclass(frozen=True, slots=True)
class Payload:
    """bootstrap.sh and one folder of `source`, by content: neither times nor owners nor modes count.

    `files` maps each path below that folder to its sha256; a file that begins with #! is executable on the machine.
    """

    source: Path
    name: str
    hash: str
    files: dict[str, str]
    _hashes: dict[str, str] = field(repr=False)  # of all that is pushed, by its path in the tar
    _tar: bytes = field(repr=False)

    @classmethod
    def load(cls, source: Path, name: str) -> Payload:
        """Read it from a folder laid out as remote/ is, or from a frozen copy."""
        folder = source / name
        if not folder.is_dir():
            raise UsageError(
                f"there is no payload {name!r}: {folder} is no folder", remedy="set `payload` to one that is"
            )
        content = {f"{name}/{path.relative_to(folder).as_posix()}": path for path in bundle.sources(folder)}
        content[BOOTSTRAP] = source / BOOTSTRAP
        hashes = {path: hashlib.sha256(file.read_bytes()).hexdigest() for path, file in content.items()}
        own = {path.removeprefix(f"{name}/"): digest for path, digest in hashes.items() if path != BOOTSTRAP}
        return cls(source, name, bundle.digest_of(content), own, hashes, bundle.pack(content))

    @property
    def formers(self) -> tuple[Former, ...]:
        """Earlier states of it that gave the same results, as it says itself."""
        file = self.source / self.name / FORMER
        if not file.exists():
            return ()
        said = json.loads(file.read_text())
        return tuple(Former(tuple(f["covers"]), f.get("payload", {}), f.get("steps", {})) for f in said)

    def freeze(self, into: Path) -> Payload:
        """Copy it, so that a run that is resumed later uses what it began with; a copy that is there is kept."""
        if not into.exists():
            temporary = into.with_name(f"{into.name}.new")
            shutil.rmtree(temporary, ignore_errors=True)
            for path in self._hashes:
                (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.source / path, temporary / path)
            temporary.rename(into)
        return Payload.load(into, self.name)

    def folder(self, workspace: str) -> str:
        """Where it lies below a workspace: bootstrap.sh, and the payload's folder under its name."""
        return posixpath.join(workspace, PLACE, self.hash)

    def push(self, agent: Agent) -> str:
        """Bring it to the machine's workspace unless this very content is there, and return its folder."""
        path = self.folder(agent.workspace)
        if self._is_there(agent, path):
            return path
        agent.remove(posixpath.join(PLACE, self.hash))
        chunks = bundle.chunks(self._tar)
        result = agent.transport.send(commands.unpack_payload(path).text, chunks, timeout_s=SEND_S)
        if result.exit or not self._is_there(agent, path):
            said = result.stderr.decode("utf-8", "replace").strip() or "what arrived is not what was sent"
            raise StepFailed(f"the payload cannot be put into {path}: {said}")
        return path

    def _is_there(self, agent: Agent, path: str) -> bool:
        """Whether every file on the machine has the content that it has here; more files do no harm."""
        found = {info.path: info.sha256 for info in agent.files(path, ["**"], sha256=True)}
        return all(found.get(file) == digest for file, digest in self._hashes.items())
