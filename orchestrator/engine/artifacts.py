"""Artifacts: from the machine to every store by signed requests, and home; both go on where they were cut."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from dataclasses import replace
from pathlib import Path, PurePosixPath

from orchestrator.engine.context import Context
from orchestrator.engine.effects import ManifestFile
from orchestrator.ledger import tables
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import ConnectionLost, MachineLost, ProviderUnavailable, StepFailed
from orchestrator.words.ports import ArtifactStore, Part, Upload

BATCH = 8  # signed parts at a time: they expire, so they are made just before they are used
STALLS = 5  # tries without a single new byte before a download is given up


def manifest(agent: Agent, workspace: str, patterns: tuple[str, ...]) -> list[ManifestFile]:
    """Every artifact once: name below the workspace, bytes, sha256."""
    found = agent.files(workspace, list(patterns), sha256=True)
    files = {f.path: ManifestFile(f.path, f.bytes, f.sha256 or "") for f in found}
    for name in files:
        if not name.isprintable():  # half a surrogate pair too: a name that is no UTF-8
            raise StepFailed(
                f"the artifact {name!r} has a name that a store cannot take", remedy="rename it in its step"
            )
    return [files[name] for name in sorted(files)]


class Uploads:
    """Sends a phase's artifacts to the run's stores."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # Tokens are capabilities: 0600, never in the database. RUN.2 goes on with what RUN began.
        self._tokens = context.folder.with_name(context.run.partition(".")[0]) / "uploads"
        self._tokens.mkdir(mode=0o700, exist_ok=True)

    def send(self, store: ArtifactStore, agent: Agent, workspace: str, file: ManifestFile) -> str:
        """Bring one file to one store, verified; return "sent" or "already there"."""
        self._note(store, file, "UPLOADING")
        if self._is_there(store, agent, workspace, file):
            self._note(store, file, "VERIFIED")
            return "already there"
        try:
            return self._upload(store, agent, workspace, file)
        except FileNotFoundError:  # the store has forgotten the upload that an earlier try began
            self._token_file(store, file.name).unlink(missing_ok=True)
            return self._upload(store, agent, workspace, file)

    def _is_there(self, store: ArtifactStore, agent: Agent, workspace: str, file: ManifestFile) -> bool:
        """Whether the store has the file; where MD5 is the proof, our metadata alone are none: they come first."""
        there = store.head(file.name)
        if there is None or (there.bytes, there.sha256) != (file.bytes, file.sha256):
            return False
        if not store.reports_md5:
            return True
        return bool(there.md5) and agent.checksums(f"{workspace}/{file.name}", 1 << 30, md5=True).md5 == there.md5

    def _upload(self, store: ArtifactStore, agent: Agent, workspace: str, file: ManifestFile) -> str:
        name, size, sha256 = file.name, file.bytes, file.sha256
        upload = self._begin(store, name, size, sha256)
        sums = agent.checksums(f"{workspace}/{name}", upload.part_bytes, md5=store.reports_md5)
        if sums.bytes != size or sums.sha256 != sha256:
            self._give_up(store, upload)
            raise StepFailed(f"{name} changed while it was uploaded: {size:,} bytes became {sums.bytes:,}")
        parts = [Part(p.number, p.offset, p.length, p.crc32) for p in sums.parts]
        self._send_parts(store, agent, f"{workspace}/{name}", upload, parts)
        stored = store.complete(replace(upload, md5=sums.md5 or ""), parts)
        if stored.bytes != size:
            raise StepFailed(f"{store.url}/{name} has {stored.bytes:,} bytes instead of {size:,}")
        self._token_file(store, name).unlink(missing_ok=True)
        self._note(store, file, "VERIFIED")
        return "sent"

    def _send_parts(self, store: ArtifactStore, agent: Agent, path: str, upload: Upload, parts: list[Part]) -> None:
        missing = store.missing(upload, parts)
        while missing:
            self._context.control.check()
            batch = store.sign(upload, missing[:BATCH])
            sent = agent.put(path, batch, ordered=store.ordered)
            left = store.missing(upload, parts)
            if len(left) == len(missing):  # what arrived is kept: whoever asks waits, and goes on from here
                said = next((part.error for part in sent if part.error), "the store says nothing")
                raise ProviderUnavailable(f"{store.url}: {upload.key}: no part arrived: {said}")
            missing = left

    def _begin(self, store: ArtifactStore, name: str, size: int, sha256: str) -> Upload:
        """Go on with the upload that an earlier try began for this very content, or open a new one."""
        file = self._token_file(store, name)
        try:
            kept = json.loads(file.read_text())
            if (kept["bytes"], kept["sha256"]) == (size, sha256):
                return Upload(**kept)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # there is none, or a crash left half of it
        upload = store.begin(name, size, sha256)
        fields = {f: getattr(upload, f) for f in ("key", "bytes", "sha256", "part_bytes", "token")}
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump(fields, out)
        return upload

    def _give_up(self, store: ArtifactStore, upload: Upload) -> None:
        store.abort(upload)
        for file in self._tokens.glob("*.json"):
            if json.loads(file.read_text())["token"] == upload.token:
                file.unlink()

    def _token_file(self, store: ArtifactStore, name: str) -> Path:
        return self._tokens / f"{hashlib.sha256(f'{store.url} {name}'.encode()).hexdigest()[:24]}.json"

    def _note(self, store: ArtifactStore, file: ManifestFile, state: str) -> None:
        self._context.ledger.put(
            tables.artifacts, run=self._context.run, store=store.url, name=file.name, state=state,
            bytes=file.bytes, sha256=file.sha256, at=self._context.now(),
        )  # fmt: skip


def pull(context: Context, machine: str, workspace: str, file: ManifestFile, target: Path) -> None:
    """Fetch one file home, going on with what is there, and verify it. The final name appears only when it is right."""
    name = safe(file.name)
    final, partial = target / name, target / f"{name}.partial"
    if final.exists() and final.stat().st_size == file.bytes and _sha256(final) == file.sha256:
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    path = posixpath.join(workspace, str(name))
    attempt = 0
    while attempt < STALLS:
        context.control.check()
        before = partial.stat().st_size if partial.exists() else 0
        try:
            with partial.open("ab") as out:
                if out.tell() > file.bytes:
                    out.truncate(0)
                for chunk in context.agents(machine).transport.fetch(path, out.tell()):
                    out.write(chunk)
                    context.control.check()
                os.fsync(out.fileno())
        except ConnectionLost as error:
            attempt = 0 if partial.exists() and partial.stat().st_size > before else attempt + 1
            if attempt == STALLS:
                raise MachineLost(f"{name} could not be fetched: {error.message}") from error
            context.clock.sleep(2.0**attempt)
            continue
        if _sha256(partial) == file.sha256:
            partial.replace(final)
            return
        partial.unlink()  # not what the manifest says: from the beginning
        attempt += 1
    raise StepFailed(f"{name} arrived {STALLS} times with another sha256 than the machine's")


def fetch_from_store(store: ArtifactStore, file: ManifestFile, target: Path) -> str:
    """Bring one uploaded file home, going on with what is there; return "fetched" or "already there"."""
    name = safe(file.name)
    final, partial = target / name, target / f"{name}.partial"
    if final.exists() and final.stat().st_size == file.bytes and _sha256(final) == file.sha256:
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
