"""A store in memory: it signs URLs that only the bench's machines can use, and keeps what is sent."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator

from orchestrator.words.errors import StepFailed
from orchestrator.words.ports import Part, SignedPart, StoredObject, Upload

PART_BYTES = 1 << 20


class MemoryStore:
    """`ports.ArtifactStore`. It refuses a part whose checksum is not the one that was signed, as a bucket does."""

    ordered = False
    reports_md5 = False

    def __init__(self, url: str = "memory://store") -> None:
        self.url = url
        self.objects: dict[str, bytes] = {}
        self._sha256: dict[str, str] = {}
        self._parts: dict[str, dict[int, bytes]] = {}
        self._sums: dict[str, str] = {}
        self.refusals: list[int] = []  # HTTP statuses of the next PUTs; then they are taken
        self.puts = 0
        self.on_read: Callable[[str], None] = lambda _name: None  # told of each read before it is answered

    def check(self) -> None:
        """See ports.ArtifactStore."""

    def head(self, name: str) -> StoredObject | None:
        """See ports.ArtifactStore."""
        if name not in self.objects:
            return None
        return StoredObject(name, len(self.objects[name]), _crc32(self.objects[name]), self._sha256.get(name))

    def begin(self, name: str, size: int, sha256: str) -> Upload:
        """See ports.ArtifactStore."""
        token = f"upload-{len(self._parts) + 1}"
        self._parts[token] = {}
        return Upload(name, size, sha256, PART_BYTES, token)

    def missing(self, upload: Upload, parts: list[Part]) -> list[Part]:
        """See ports.ArtifactStore. FileNotFoundError: it knows no such upload."""
        if upload.token not in self._parts:
            raise FileNotFoundError(upload.token)
        return [p for p in parts if p.number not in self._parts[upload.token]]

    def sign(self, upload: Upload, parts: list[Part]) -> list[SignedPart]:
        """See ports.ArtifactStore."""
        for part in parts:
            self._sums[f"{self.url}/{upload.token}/{part.number}"] = part.crc32
        return [SignedPart(p, f"{self.url}/{upload.token}/{p.number}", {}, (200,)) for p in parts]

    def put(self, url: str, data: bytes) -> int:
        """One PUT of a machine; its HTTP status."""
        self.puts += 1
        if self.refusals:
            return self.refusals.pop(0)
        token, _, number = url.removeprefix(f"{self.url}/").partition("/")
        if _crc32(data) != self._sums[url]:
            return 400
        self._parts[token][int(number)] = data
        return 200

    def complete(self, upload: Upload, parts: list[Part]) -> StoredObject:
        """See ports.ArtifactStore."""
        held = self._parts.pop(upload.token, None)
        if held is not None:
            whole = b"".join(held[p.number] for p in sorted(parts, key=lambda p: p.number))
            if hashlib.sha256(whole).hexdigest() != upload.sha256:
                raise StepFailed(f"{self.url}: {upload.key}: its content is not what was sent")
            self.objects[upload.key], self._sha256[upload.key] = whole, upload.sha256
        stored = self.head(upload.key)
        if stored is None:
            raise FileNotFoundError(upload.token)
        return stored

    def abort(self, upload: Upload) -> None:
        """See ports.ArtifactStore."""
        self._parts.pop(upload.token, None)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ports.ArtifactStore. FileNotFoundError: it has no such object."""
        if name not in self.objects:
            raise FileNotFoundError(name)
        self.on_read(name)
        yield self.objects[name][offset : None if length is None else offset + length]

    def put_text(self, name: str, text: str) -> None:
        """See ports.ArtifactStore."""
        self.objects[name] = text.encode()


def _crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
