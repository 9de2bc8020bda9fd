"""Artifacts as files: what a phase has made, and its way home, verified, going on where it was cut."""

from __future__ import annotations

import hashlib
import os
import posixpath
from pathlib import Path, PurePosixPath

from orchestrator.engine.context import Context
from orchestrator.engine.effects import ManifestFile
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import ConnectionLost, MachineLost, StepFailed
from orchestrator.words.ports import ArtifactStore

STALLS = 5  # tries without a single new byte before a download is given up


def manifest(agent: Agent, workspace: str, patterns: tuple[str, ...]) -> list[ManifestFile]:
    """Every artifact once, by name."""
    found = agent.files(workspace, list(patterns), sha256=True, strict=True)
    files = {f.path: ManifestFile(f.path, f.bytes, f.sha256 or "") for f in found}
    for name in files:
        if not name.isprintable():  # half a surrogate pair too: a name that is no UTF-8
            raise StepFailed(
                f"the artifact {name!r} has a name that a store cannot take", remedy="rename it in its step"
            )
    return [files[name] for name in sorted(files)]


def pull(context: Context, machine: str, workspace: str, file: ManifestFile, target: Path) -> None:
    """Fetch one file home, going on with what is there, and verify it. The final name appears only when it is right."""
    name = safe(file.name)
    final, partial = target / name, target / f"{name}.partial"
    if is_whole(final, file):
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    path, stalls = posixpath.join(workspace, str(name)), 0
    while stalls < STALLS:
        context.control.check()
        before = _bytes(partial)
        try:
            _fetch(context, machine, path, partial, file.bytes)
        except ConnectionLost as error:
            stalls = 0 if _bytes(partial) > before else stalls + 1
            if stalls == STALLS:
                raise MachineLost(f"{name} could not be fetched: {error.message}") from error
            context.control.pause(context.clock.scaled(2.0**stalls))
            continue
        if _sha256(partial) == file.sha256:
            partial.replace(final)
            return
        partial.unlink()  # not what the manifest says: from the beginning
        stalls += 1
    raise StepFailed(f"{name} arrived {STALLS} times with another sha256 than the machine's")


def _fetch(context: Context, machine: str, path: str, partial: Path, size: int) -> None:
    """Append what is still to come of the machine's file to `partial`."""
    with partial.open("ab") as out:
        if out.tell() > size:
            out.truncate(0)
        for chunk in context.agents(machine).transport.fetch(path, out.tell()):
            out.write(chunk)
            context.control.check()
        os.fsync(out.fileno())


def fetch_from_store(store: ArtifactStore, file: ManifestFile, target: Path) -> str:
    """Bring one uploaded file home, going on with what is there; return "fetched" or "already there"."""
    name = safe(file.name)
    final, partial = target / name, target / f"{name}.partial"
    if is_whole(final, file):
        return "already there"
    final.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("ab") as out:
        for chunk in store.read(str(name), out.tell()):
            out.write(chunk)
        os.fsync(out.fileno())
    if _sha256(partial) != file.sha256:
        partial.unlink()
        raise StepFailed(f"{name} came from {store.url} with another sha256", remedy="pull again: it starts over")
    partial.replace(final)
    return "fetched"


def safe(name: str) -> PurePosixPath:
    """A manifest's name as a path below a folder; StepFailed for an absolute one or one with `..` in it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise StepFailed(f"the artifact name {name!r} leaves its folder: refused")
    return path


def is_whole(path: Path, file: ManifestFile) -> bool:
    """Whether the file at home is what the manifest says."""
    return path.exists() and path.stat().st_size == file.bytes and _sha256(path) == file.sha256


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
