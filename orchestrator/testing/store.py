"""A store in memory: it signs URLs that only the bench's machines can use, and keeps what is sent."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator

from orchestrator.rehearsal.faults import Switchboard
from orchestrator.words.errors import StepFailed, StoreBusy
from orchestrator.words.source import SignedGet, SourceFile
from orchestrator.words.store import Part, SignedPart, StoredObject, Upload

PART_BYTES = 1 << 20
REFUSING = {"s3-503": 503, "s3-expired": 403, "gcs-503": 503, "gcs-cut": 0}  # fault -> status of a part, which is lost


class MemoryStore:
    """`ArtifactStore`. It refuses a part whose checksum is not the one that was signed, as a bucket does."""

    def __init__(
        self,
        url: str = "memory://store",
        faults: Switchboard | None = None,
        changed: Callable[[str], None] = lambda _what: None,
    ) -> None:
        """`url`: of Google's kind where it begins with gs, else of Amazon's; `faults`: the disasters of that kind.

        `changed` hears when something has changed here.
        """
        self.url, self._faults, self._changed = url, faults or Switchboard(), changed
        self.ordered = self.reports_md5 = url.startswith("gs")
        self.shares_uploads, self.parts_md5 = not self.ordered, False
        self._kind = "gcs-" if self.ordered else "s3-"
        self.objects: dict[str, bytes] = {}
        self._sha256: dict[str, str] = {}
        self._parts: dict[str, dict[int, bytes]] = {}
        self._sums: dict[str, str] = {}
        self.refusals: list[int] = []  # HTTP statuses of the next PUTs; then they are taken
        self.puts = self._tokens = 0
        self.on_read: Callable[[str], None] = lambda _name: None  # told of each read before it is answered

    def check(self) -> None:
        """See ArtifactStore."""

    def head(self, name: str) -> StoredObject | None:
        """See ArtifactStore."""
        self._be_there()
        if name not in self.objects:
            return None
        content = self.objects[name]
        md5 = _md5(content) if self.reports_md5 else None
        return StoredObject(name, len(content), _crc32(content), self._sha256.get(name), md5)

    def begin(self, name: str, size: int, sha256: str) -> Upload:
        """See ArtifactStore."""
        self._be_there()
        self._tokens += 1
        token = f"upload-{self._tokens}"
        self._parts[token] = {}
        self._changed("store")
        return Upload(name, size, sha256, PART_BYTES, token)

    def missing(self, upload: Upload, parts: list[Part]) -> list[Part]:
        """See ArtifactStore. FileNotFoundError: it knows no such upload."""
        self._be_there()
        if upload.token not in self._parts:
            raise FileNotFoundError(upload.token)
        return [p for p in parts if p.number not in self._parts[upload.token]]

    def sign(self, upload: Upload, parts: list[Part]) -> list[SignedPart]:
        """See ArtifactStore."""
        for part in parts:
            self._sums[f"{self.url}/{upload.token}/{part.number}"] = part.crc32
        return [SignedPart(p, f"{self.url}/{upload.token}/{p.number}", {}, (200,)) for p in parts]

    def put(self, url: str, data: bytes) -> int:
        """One PUT of a machine; its HTTP status."""
        self.puts += 1
        if self.refusals:
            return self.refusals.pop(0)
        refused = [n for n in REFUSING if n.startswith(self._kind)]
        if fault := next((name for name in refused if self._faults.take(name)), ""):
            return REFUSING[fault]
        token, _, number = url.removeprefix(f"{self.url}/").partition("/")
        if _crc32(data) != self._sums[url]:
            return 400
        self._parts[token][int(number)] = data
        return 0 if self._kind == "s3-" and self._faults.take("s3-cut") else 200

    def complete(self, upload: Upload, parts: list[Part]) -> StoredObject:
        """See ArtifactStore."""
        self._be_there()
        held = self._parts.pop(upload.token, None)
        if held is not None:
            whole = b"".join(held[p.number] for p in sorted(parts, key=lambda p: p.number))
            if hashlib.sha256(whole).hexdigest() != upload.sha256:
                raise StepFailed(f"{self.url}: {upload.key}: its content is not what was sent")
            self.objects[upload.key], self._sha256[upload.key] = whole, upload.sha256
            self._changed("store")
        stored = self.head(upload.key)
        if stored is None:
            raise FileNotFoundError(upload.token)
        return stored

    def abort(self, upload: Upload) -> None:
        """See ArtifactStore."""
        self._parts.pop(upload.token, None)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ArtifactStore. FileNotFoundError: it has no such object."""
        if name not in self.objects:
            raise FileNotFoundError(name)
        self.on_read(name)
        yield self.objects[name][offset : None if length is None else offset + length]

    def put_text(self, name: str, text: str) -> None:
        """See ArtifactStore."""
        self._be_there()
        self.objects[name] = text.encode()
        self._changed("store")

    def _be_there(self) -> None:
        if self._kind == "s3-" and self._faults.take("s3-busy"):
            raise StoreBusy(f"{self.url}: SlowDown")


class MemorySource:
    """`Source`: what lies below an address, in memory. Each content has another tag."""

    def __init__(self, url: str, objects: dict[str, bytes]) -> None:
        self.url, self.objects = url, objects
        self.gets: list[str] = []  # names that a machine has fetched
        self.refusals: list[int] = []  # HTTP statuses of the next GETs; then they are answered

    def listing(self) -> list[SourceFile]:
        """See Source."""
        return [SourceFile(name, name, len(data), _md5(data)) for name, data in sorted(self.objects.items())]

    def about(self, file: SourceFile) -> StoredObject | None:
        """See Source."""
        data = self.objects.get(file.key)
        return None if data is None else StoredObject(file.key, len(data), _crc32(data), None, _md5(data))

    def signed_get(self, file: SourceFile) -> SignedGet:
        """See Source."""
        return SignedGet(f"{self.url}/{file.key}", {"If-Match": file.etag})

    def get(self, url: str, tag: str) -> bytes | int:
        """One GET of a machine: the content, or an HTTP status."""
        name = url.removeprefix(f"{self.url}/")
        if self.refusals:
            return self.refusals.pop(0)
        if name not in self.objects:
            return 404
        if _md5(self.objects[name]) != tag:
            return 412
        self.gets.append(name)
        return self.objects[name]


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()  # noqa: S324  what Google's store reports


def _crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
