"""A folder as a store: `file:///folder`, for a machine on this computer (`--ssh-host`) and for trying things out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.storage import StoreAccess
from orchestrator.storage.checksum import crc32_of, whole_crc32
from orchestrator.storage.layout import MIB, Place, UploadGone, part_size, require_whole
from orchestrator.storage.receiver import CHECKSUM, Receiver
from orchestrator.words.errors import StepFailed, UsageError
from orchestrator.words.store import Part, SignedPart, StoredObject, Upload

OWN = ".gpuplan-store"  # uploads under way, and what is known of each object
BLOCK = MIB


class DirectoryStore:
    """`ArtifactStore` on a folder. Parts come in by HTTP on loopback, as they would at a bucket."""

    ordered = False
    shares_uploads = False
    reports_md5 = False
    parts_md5 = False

    def __init__(self, url: str, access: StoreAccess) -> None:
        self.url = url
        self._root = _folder(url)
        self._access = access
        self._names = Place("", "")
        self._receiver: Receiver | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """See ArtifactStore."""
        try:
            self._uploads.mkdir(parents=True, exist_ok=True)
            probe = self._uploads / f"check-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"{self.url} cannot be written to: {error.strerror}", remedy="choose another folder"
            ) from error

    def head(self, name: str) -> StoredObject | None:
        """See ArtifactStore."""
        return self._head(self._names.key(name))

    def begin(self, name: str, size: int, sha256: str) -> Upload:
        """See ArtifactStore."""
        token = uuid.uuid4().hex
        (self._uploads / token).mkdir(parents=True)
        each = part_size(size, self._access.part_bytes, least=1, most_parts=10_000, grain=1, url=self.url)
        return Upload(self._names.key(name), size, sha256, each, token)

    def missing(self, upload: Upload, parts: list[Part]) -> list[Part]:
        """See ArtifactStore. UploadGone: begin again."""
        folder = self._staging(upload)
        return [p for p in parts if not self._holds(folder / str(p.number), p)]

    def sign(self, upload: Upload, parts: list[Part]) -> list[SignedPart]:
        """See ArtifactStore. The URLs live as long as this process."""
        with self._lock:
            if self._receiver is None:
                self._receiver = Receiver(self._uploads)
            receiver = self._receiver
        return [SignedPart(p, receiver.url(upload.token, p.number), {CHECKSUM: p.crc32}, (200,)) for p in parts]

    def complete(self, upload: Upload, parts: list[Part]) -> StoredObject:
        """See ArtifactStore. Completing twice is one completion. UploadGone: begin again."""
        ordered = require_whole(upload, parts)
        found = self._head(upload.key)
        if not self._has_staging(upload) and found and found.sha256 == upload.sha256:
            return found
        folder = self._staging(upload)
        absent = [p.number for p in ordered if p.length and not self._holds(folder / str(p.number), p)]
        if absent:
            raise StepFailed(f"{self.url}: {upload.key}: the store lacks parts {absent[:10]} of {len(ordered)}")
        joined, digest = folder / "joined", hashlib.sha256()
        with joined.open("wb") as file:
            for part in ordered:
                for block in _blocks(folder / str(part.number)) if part.length else ():
                    digest.update(block)
                    file.write(block)
            os.fsync(file.fileno())
        if digest.hexdigest() != upload.sha256:
            raise StepFailed(f"{self.url}: {upload.key}: its content is not what was sent", remedy="upload it again")
        self._publish(joined, upload.key, {"crc32": whole_crc32(ordered), "sha256": upload.sha256})
        self.abort(upload)
        return StoredObject(upload.key, upload.bytes, whole_crc32(ordered), upload.sha256)

    def abort(self, upload: Upload) -> None:
        """See ArtifactStore."""
        shutil.rmtree(self._uploads / upload.token, ignore_errors=True)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ArtifactStore. FileNotFoundError: there is no such object."""
        yield from _blocks(self._root / self._names.key(name), offset, length)

    def put_text(self, name: str, text: str) -> None:
        """See ArtifactStore."""
        self._uploads.mkdir(parents=True, exist_ok=True)
        file = self._uploads / f"text-{uuid.uuid4().hex}"
        data = text.encode()
        file.write_bytes(data)
        facts = {"crc32": crc32_of(data), "sha256": None}
        self._publish(file, self._names.key(name), facts)

    def close(self) -> None:
        """Stop taking parts. Idempotent."""
        with self._lock:
            if self._receiver:
                self._receiver.close()
            self._receiver = None

    @property
    def _uploads(self) -> Path:
        return self._root / OWN / "uploads"

    def _facts(self, key: str) -> Path:
        return self._root / OWN / "facts" / f"{key}.json"

    def _has_staging(self, upload: Upload) -> bool:
        return upload.token.isalnum() and (self._uploads / upload.token).is_dir()

    def _staging(self, upload: Upload) -> Path:
        if not self._has_staging(upload):
            raise UploadGone(f"{self.url}: {upload.key}: the upload is gone")
        return self._uploads / upload.token

    def _head(self, key: str) -> StoredObject | None:
        path = self._root / key
        if not path.is_file():
            return None
        facts: dict[str, str | None] = {}
        with contextlib.suppress(OSError, ValueError):  # put there by hand: its checksums are not known
            facts = json.loads(self._facts(key).read_text(encoding="utf-8"))
        return StoredObject(key, path.stat().st_size, facts.get("crc32"), facts.get("sha256"))

    def _publish(self, file: Path, key: str, facts: dict[str, str | None]) -> None:
        target, told = self._root / key, self._facts(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        told.parent.mkdir(parents=True, exist_ok=True)
        told.write_text(json.dumps(facts), encoding="utf-8")
        file.replace(target)

    @staticmethod
    def _holds(file: Path, part: Part) -> bool:
        """Whether the part is there: the receiver let only bytes with the right checksum in under this name."""
        return file.is_file() and file.stat().st_size == part.length


def _folder(url: str) -> Path:
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute() or path == Path("/"):
        raise UsageError(f"{url!r} names no folder", remedy="write it as file:///absolute/folder")
    return path


def _blocks(path: Path, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        left = float("inf") if length is None else length
        while left > 0 and (block := file.read(int(min(BLOCK, left)))):
            left -= len(block)
            yield block
