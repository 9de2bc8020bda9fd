"""Artifacts to the stores: by signed requests from the machine itself, going on where an earlier try was cut."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

from orchestrator.engine.context import Context
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.together import together
from orchestrator.engine.transfers import UPLOAD, Transfer
from orchestrator.ledger.rows import ArtifactRow
from orchestrator.transport.agent import Agent
from orchestrator.transport.refusals import AgentFailed
from orchestrator.transport.replies import Checksums, SentPart
from orchestrator.words.errors import StepFailed, StoreBusy, StoreUnavailable
from orchestrator.words.store import ArtifactStore, Part, Upload

SMALL_BYTES = 8 << 20  # a file up to this size is one part
LOT = 100  # small files that are sent, and recorded, together
BATCH = 128  # signed parts at a time, after which senders wait for each other; each may be used for an hour
PATIENCE_S = 300.0  # without a stored part, in the cloud's time; a store that asks for patience gets the phase's time
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
RENEWALS = 3  # of signatures that had expired, without a stored part between
CHANGED = "changed"  # what the agent calls a file of a tar that is another one now
EXPIRED = frozenset({400, 401, 403})  # what stores answer to a signature that is too old, with words that say so


def lots(files: list[ManifestFile]) -> Iterator[list[ManifestFile]]:
    """The files as they are sent: small ones many at a time, each large one, whose parts go side by side, alone."""
    lot: list[ManifestFile] = []
    for file in files:
        if file.bytes > SMALL_BYTES:
            yield [file]
            continue
        lot.append(file)
        if len(lot) == LOT:
            yield lot
            lot = []
    if lot:
        yield lot


class Uploads:
    """Sends a phase's artifacts to the run's stores."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # Tokens may be capabilities: 0600. RUN.2 goes on with what RUN began.
        self._tokens = context.folder.with_name(context.run.partition(".")[0]) / "uploads"
        self._tokens.mkdir(mode=0o700, exist_ok=True)
        self._transfers: dict[tuple[str, str], Transfer] = {}  # of this process, by phase and store

    def transfer(self, phase: str, store: ArtifactStore, files: list[ManifestFile], *, is_all: bool) -> Transfer:
        """How far a phase's files are on their way to a store: these, and what was said before. `is_all`: no others."""
        key = (phase, store.url)
        transfer = self._transfers.setdefault(key, Transfer(self._context, phase, UPLOAD, store.url))
        rows = self._context.ledger.artifacts.all(run=self._context.run, store=store.url, state="VERIFIED")
        transfer.expect({file.name: file.bytes for file in files}, {row.name for row in rows}, is_all=is_all)
        return transfer

    def send_all(
        self,
        store: ArtifactStore,
        agent: Agent,
        workspace: str,
        files: list[ManifestFile],
        transfer: Transfer,
        tars: Collection[str] = (),
    ) -> None:
        """Bring files to one store, several at the same time; the first error ends it when what is under way has.

        `tars`: names of those that are packed folders.
        """

        def send(file: ManifestFile) -> str:
            return self.send(store, agent, workspace, file, transfer, tar=file.name in tars)

        together(self._context.clock, send, files)
        if len(files) > 1:
            self._context.event(f"{store.url}: {len(files)} files are there, up to {files[-1].name}", minor=True)

    def send(
        self,
        store: ArtifactStore,
        agent: Agent,
        workspace: str,
        file: ManifestFile,
        transfer: Transfer,
        *,
        tar: bool = False,
    ) -> str:
        """Bring one file to one store, verified; return "sent" or "already there". `tar`: it is a packed folder.

        A store that fails is tried again until PATIENCE_S pass without a stored part, one that asks for patience (429,
        503) until the phase's time-out stops the run. StoreUnavailable: it was given up; what arrived is kept.
        """
        name = f"{hashlib.sha256(f'{store.url} {file.name}'.encode()).hexdigest()[:24]}.json"
        token = _Token(self._tokens / name, self._context.keep if store.shares_uploads else lambda _file: None)
        sending, patience = Sending(store, agent, workspace, file, token, transfer, tar=tar), Patience(self._context)
        self._note(store, file, "UPLOADING")
        while True:
            try:
                how = "already there" if sending.is_there() else sending.send(patience)
                break
            except FileNotFoundError as error:  # the store has forgotten the upload that an earlier try began
                token.forget()
                patience.wait(self._named(store, file, StoreUnavailable(str(error))))
            except StoreUnavailable as error:
                patience.wait(self._named(store, file, error))
        token.forget()
        self._note(store, file, "VERIFIED")
        transfer.whole(file.name)
        return how

    def _named(self, store: ArtifactStore, file: ManifestFile, error: StoreUnavailable) -> StoreUnavailable:
        """The error with the store's and the object's name in it."""
        said = error.message if store.url in error.message else f"{store.url}: {error.message}"
        said = said if file.name in said else f"{file.name}: {said}"
        remedy = f"what has arrived is kept: gpuplan resume {self._context.run} sends the rest"
        return type(error)(said, retry_after=error.retry_after, remedy=remedy)

    def _note(self, store: ArtifactStore, file: ManifestFile, state: str) -> None:
        self._context.ledger.artifacts.put(
            ArtifactRow(
                run=self._context.run, store=store.url, name=file.name, state=state, bytes=file.bytes,
                sha256=file.sha256, at=self._context.now(),
            )
        )  # fmt: skip


class Patience:
    """How long a store that is unwell is waited for: anew from each part that it has stored."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.renew()

    def renew(self) -> None:
        """A part was stored."""
        self._until = self._context.clock.monotonic() + self._context.clock.real(PATIENCE_S)
        self._pause = FIRST_PAUSE_S

    def wait(self, error: StoreUnavailable) -> None:
        """Pause before the next try. Raises the error when the patience is used up, or as control.check does."""
        self._context.control.check()  # the phase's time-out comes this way too
        if not isinstance(error, StoreBusy) and self._context.clock.monotonic() >= self._until:
            raise error
        wanted = max(self._pause, min(error.retry_after or 0.0, PATIENCE_S))
        self._context.control.pause(self._context.clock.scaled(wanted))
        self._context.control.check()
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)


class _Token:
    """An upload under way, in a file that only its owner reads; `share` writes it down for others too."""

    def __init__(self, file: Path, share: Callable[[Path], None]) -> None:
        self._file, self._share = file, share

    def read(self) -> Upload | None:
        """What an earlier try began. None: there is nothing, or a crash left half of it."""
        try:
            return Upload(**json.loads(self._file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, upload: Upload) -> None:
        """Keep it for a later try."""
        fields = {f: getattr(upload, f) for f in ("key", "bytes", "sha256", "part_bytes", "token")}
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump(fields, out)
        self._share(self._file)

    def forget(self) -> None:
        """Nothing goes on with it."""
        self._file.unlink(missing_ok=True)


class Sending:
    """One file on its way to one store."""

    def __init__(
        self,
        store: ArtifactStore,
        agent: Agent,
        workspace: str,
        file: ManifestFile,
        token: _Token,
        transfer: Transfer,
        *,
        tar: bool,
    ) -> None:
        """`token`: what a later try goes on with; `transfer` hears of each part."""
        self._transfer, self._tar = transfer, tar
        self._store, self._agent, self._file, self._token = store, agent, file, token
        self._path = f"{workspace}/{file.name}"
        self._sums: dict[int, Checksums] = {}  # by the size of a part: hashed once, however often it is tried

    def is_there(self) -> bool:
        """Whether the store has the file.

        Where MD5 is the proof, our metadata alone are none: they come first, before the object is verified. The file is
        read anew then, and one that is not the manifest's any more proves nothing.
        """
        there = self._store.head(self._file.name)
        if there is None or (there.bytes, there.sha256) != (self._file.bytes, self._file.sha256):
            return False
        if not self._store.reports_md5:
            return True
        sums = self._agent.checksums(self._path, 1 << 30, md5=True, tar=self._tar) if there.md5 else None
        return sums is not None and (sums.sha256, sums.md5) == (self._file.sha256, there.md5)

    def send(self, patience: Patience) -> str:
        """Send what the store lacks, and have it joined and verified. StoreUnavailable: not now."""
        upload, fresh = self._begin()
        try:
            return self._send(upload, patience, fresh=fresh)
        except AgentFailed as error:
            if error.code != CHANGED:
                raise
            self._forget(upload)
            raise StepFailed(f"{self._file.name} changed while it was uploaded: {error.message}") from error

    def _forget(self, upload: Upload) -> None:
        """Nothing goes on with it."""
        self._store.abort(upload)
        self._token.forget()

    def _send(self, upload: Upload, patience: Patience, *, fresh: bool) -> str:
        name, size = self._file.name, self._file.bytes
        sums = self._sums.get(upload.part_bytes) or self._agent.checksums(
            self._path, upload.part_bytes, md5=self._store.reports_md5, parts_md5=self._store.parts_md5, tar=self._tar
        )
        if sums.bytes != size or sums.sha256 != self._file.sha256:
            self._forget(upload)
            raise StepFailed(f"{name} changed while it was uploaded: {size:,} bytes became {sums.bytes:,}")
        self._sums[upload.part_bytes] = sums
        parts = [Part(p.number, p.offset, p.length, p.crc32, p.md5 or "") for p in sums.parts]
        self._send_parts(upload, parts, patience, fresh=fresh)
        stored = self._store.complete(replace(upload, md5=sums.md5 or ""), parts)
        if stored.bytes != size:
            raise StepFailed(f"{self._store.url}/{name} has {stored.bytes:,} bytes instead of {size:,}")
        return "sent"

    def _send_parts(self, upload: Upload, parts: list[Part], patience: Patience, *, fresh: bool) -> None:
        """Send batch after batch, each freshly signed, until nothing is missing. `fresh`: nothing was sent before."""
        missing, renewals = parts if fresh and parts else self._store.missing(upload, parts), 0
        while missing:
            batch = self._store.sign(upload, missing[:BATCH])
            moving = _Moving(missing, self._file, self._transfer)
            ordered = self._store.ordered
            sent = self._agent.put(self._path, batch, ordered=ordered, tar=self._tar, on_part=moving.said)
            whole = len(parts) == len(sent) == 1 and sent[0].stored  # says the machine: completing it asks the store
            left = [] if whole else self._store.missing(upload, parts)
            moving.lacks(sum(part.length for part in left))
            if len(left) < len(missing):
                patience.renew()
                renewals = 0
            elif renewals < RENEWALS and any(_had_expired(part) for part in sent):
                renewals += 1
            else:
                patience.wait(self._refusal(upload, sent))
            missing = left

    def _refusal(self, upload: Upload, sent: list[SentPart]) -> StoreUnavailable:
        """Why nothing of a batch arrived."""
        refused = next((part for part in sent if part.error), None)
        said = refused.error if refused else "the store says nothing"
        kind = StoreBusy if refused and refused.status in StoreBusy.STATUSES else StoreUnavailable
        return kind(f"{self._store.url}: {upload.key}: no part arrived: {said}")

    def _begin(self) -> tuple[Upload, bool]:
        """Go on with the upload that an earlier try began for this very content, or open a new one; True: it is new."""
        wanted = (self._file.bytes, self._file.sha256)
        kept = self._token.read()
        if kept and (kept.bytes, kept.sha256) == wanted:
            return kept, False
        upload = self._store.begin(self._file.name, *wanted)
        self._token.write(upload)
        return upload, True


class _Moving:
    """How far a file is while a batch of its parts is sent: as the machine says of each, then as the store does."""

    def __init__(self, missing: list[Part], file: ManifestFile, transfer: Transfer) -> None:
        self._lengths = {part.number: part.length for part in missing}
        self._lacks = sum(self._lengths.values())
        self._file, self._transfer = file, transfer

    def said(self, part: SentPart) -> None:
        """The machine has sent one, or has not."""
        if part.stored:
            self.lacks(self._lacks - self._lengths[part.number])

    def lacks(self, count: int) -> None:
        """So many bytes are still to come."""
        moved, self._lacks = self._lacks - count, count
        self._transfer.arrived(self._file.name, self._file.bytes - count, max(moved, 0))


def _had_expired(part: SentPart) -> bool:
    return part.status in EXPIRED and "expired" in part.error.lower()
