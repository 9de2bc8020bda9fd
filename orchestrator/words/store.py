"""What the engine asks of a bucket; held by the same contract suite as `Provider`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a store."""

    key: str
    bytes: int
    crc32: str | None  # base64 of the whole object's CRC32 (S3) or CRC32C (GCS); None: the store does not say
    sha256: str | None  # from our own metadata; None: not ours
    md5: str | None = None  # base64; None: the store does not say


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of the file to send. `crc32` is base64 of its big-endian CRC32, computed on the machine."""

    number: int  # from 1
    offset: int
    length: int
    crc32: str
    md5: str = ""  # base64; "": the store has no use for it


@dataclass(frozen=True, slots=True)
class SignedPart:
    """One PUT that the machine can make without any credential of ours. The URL is a capability: never logged."""

    part: Part
    url: str
    headers: dict[str, str]
    accept: tuple[int, ...]  # HTTP statuses that mean stored


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload under way. `token` may be a capability (a session URI, unlike an upload id): kept in a 0600 file."""

    key: str
    bytes: int
    sha256: str
    part_bytes: int
    token: str = field(repr=False)  # "": one request sends all of it, and the store knows of no upload
    md5: str = ""  # base64, of the whole file, from the machine; "": not known, or the store has no use for it


class ArtifactStore(Protocol):
    """A bucket, seen from the controller: it holds the credentials, the machine only gets signed requests."""

    url: str  # s3://bucket/prefix
    ordered: bool  # True: parts go one after the other (GCS), False: at the same time (S3)
    shares_uploads: bool  # True: an upload's token is of no use without the store's own credentials (S3)
    reports_md5: bool  # True: the MD5 of the whole is what proves an object, so `complete` wants it (GCS)
    parts_md5: bool  # True: each part is signed with its own MD5 (an S3 that is not Amazon's)

    def check(self) -> None:
        """Send a small object the whole way of an artifact, before money is spent, and remove it if that is allowed.

        UsageError, with the store's own words and the right that is missing: it cannot be written to, or not read.
        """
        ...

    def head(self, name: str) -> StoredObject | None:
        """The object under prefix/name, or None."""
        ...

    def begin(self, name: str, size: int, sha256: str) -> Upload:
        """Open an upload of a whole object. Part sizes are chosen by the store's rules (>= 5 MiB, <= 10,000 parts)."""
        ...

    def missing(self, upload: Upload, parts: list[Part]) -> list[Part]:
        """Which of the parts the store does not hold yet (by number, size and, where it says, checksum)."""
        ...

    def sign(self, upload: Upload, parts: list[Part]) -> list[SignedPart]:
        """Sign the PUTs of a small batch, just before they are used."""
        ...

    def complete(self, upload: Upload, parts: list[Part]) -> StoredObject:
        """Join the parts and verify the object's checksum and size. StepFailed, naming the object, if it differs."""
        ...

    def abort(self, upload: Upload) -> None:
        """Give up an upload: nothing of it stays billed. Idempotent."""
        ...

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes from `offset` on, at most `length` of them (None: all). Safe from several threads."""
        ...

    def put_text(self, name: str, text: str) -> None:
        """Store a small document (the manifest)."""
        ...
