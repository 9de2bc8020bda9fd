"""By what an S3 knows that it has the right bytes: Amazon's checksums, or what every store that speaks like it has."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from orchestrator.storage.checksum import md5_of, whole_crc32
from orchestrator.words.store import Part, Upload


class Proof(Protocol):
    """What requests carry so that wrong bytes are refused, and how the whole is told to be right."""

    parts_md5: bool  # parts need their MD5
    client: dict[str, str]  # further configuration of boto3
    create: dict[str, str]  # further parameters of CreateMultipartUpload ...
    head: dict[str, str]  # ... and of HeadObject

    def part(self, part: Part) -> tuple[dict[str, str], dict[str, str]]:
        """Parameters that are signed with a part, and the headers that the machine sends therefore."""
        ...

    def listed(self, part: Part) -> dict[str, str]:
        """What a completion says of a part besides its number and ETag."""
        ...

    def complete(self, upload: Upload, parts: Sequence[Part]) -> dict[str, Any]:
        """Further parameters of CompleteMultipartUpload."""
        ...

    def put(self, body: bytes) -> dict[str, str]:
        """Further parameters of PutObject."""
        ...

    def holds(self, row: dict[str, Any], part: Part) -> bool:
        """Whether a part that the store lists, of the right size, may be this one."""
        ...

    def right(self, found: dict[str, Any], parts: Sequence[Part]) -> bool | None:
        """Whether the object is these parts, by what HeadObject says; None: that does not tell."""
        ...


class ByCrc32:
    """Amazon: each part's CRC-32 is signed, the whole object's is checked when it is joined, and kept."""

    def __init__(self) -> None:
        self.parts_md5, self.client = False, dict[str, str]()
        self.create = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        self.head = {"ChecksumMode": "ENABLED"}

    def part(self, part: Part) -> tuple[dict[str, str], dict[str, str]]:
        """See Proof."""
        return {"ChecksumCRC32": part.crc32}, {"x-amz-checksum-crc32": part.crc32}

    def listed(self, part: Part) -> dict[str, str]:
        """See Proof."""
        return {"ChecksumCRC32": part.crc32}

    def complete(self, upload: Upload, parts: Sequence[Part]) -> dict[str, Any]:
        """See Proof."""
        return {"ChecksumCRC32": whole_crc32(parts), "ChecksumType": "FULL_OBJECT", "MpuObjectSize": upload.bytes}

    def put(self, body: bytes) -> dict[str, str]:
        """See Proof. boto3 adds a checksum by itself."""
        del body
        return {}

    def holds(self, row: dict[str, Any], part: Part) -> bool:
        """See Proof. Not every store tells the checksum."""
        return row.get("ChecksumCRC32") in {None, part.crc32}

    def right(self, found: dict[str, Any], parts: Sequence[Part]) -> bool | None:
        """See Proof. What tells no checksum has compared it when the parts were joined."""
        return found.get("ChecksumCRC32") in {None, whole_crc32(parts)}


class ByMd5:
    """R2, B2, MinIO and their like: Content-MD5 is signed with each part, and the ETag is made of the parts' MD5s.

    Amazon's checksum headers are refused by some (B2: InvalidArgument, R2: NotImplemented), and R2 knows no CRC-32 of a
    whole object. An ETag of another form (objects that are encrypted by a key of the user's) tells nothing.
    """

    def __init__(self) -> None:
        self.parts_md5, self.create, self.head = True, dict[str, str](), dict[str, str]()
        self.client = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }

    def part(self, part: Part) -> tuple[dict[str, str], dict[str, str]]:
        """See Proof."""
        return {"ContentMD5": part.md5}, {"Content-MD5": part.md5}

    def listed(self, part: Part) -> dict[str, str]:
        """See Proof."""
        del part
        return {}

    def complete(self, upload: Upload, parts: Sequence[Part]) -> dict[str, Any]:
        """See Proof."""
        del upload, parts
        return {}

    def put(self, body: bytes) -> dict[str, str]:
        """See Proof."""
        return {"ContentMD5": md5_of(body)}

    def holds(self, row: dict[str, Any], part: Part) -> bool:
        """See Proof. It was let in with the MD5 that was signed; its ETag need not be one."""
        del row, part
        return True

    def right(self, found: dict[str, Any], parts: Sequence[Part]) -> bool | None:
        """See Proof. Another ETag may be of another kind: the bytes are what tells."""
        alone = base64.b64decode(parts[0].md5).hex() if len(parts) == 1 else ""
        return True if found["ETag"].strip('"') in {multipart_etag(parts), alone} else None


def multipart_etag(parts: Sequence[Part]) -> str:
    """What S3 calls an object that was joined of these parts."""
    ordered = sorted(parts, key=lambda part: part.number)
    joined = b"".join(base64.b64decode(part.md5) for part in ordered)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(ordered)}"
