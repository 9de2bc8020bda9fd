"""What all stores share: where an object lies, how large its parts are, and whether a list of parts is whole."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.words.errors import StepFailed, UsageError
from orchestrator.words.source import SourceFile
from orchestrator.words.store import Part, Upload

MIB = 1024 * 1024
DEFAULT_PART_BYTES = 64 * MIB


class UploadGone(StepFailed, FileNotFoundError):
    """The store no longer knows this upload (aborted, expired): begin a new one.

    It is a FileNotFoundError too, so that it can be told from other failures without knowing the stores.
    """


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket and the prefix below which all names lie."""

    bucket: str
    prefix: str

    def key(self, name: str) -> str:
        """The object's key for a name. UsageError: the name leaves the prefix."""
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise UsageError(f"{name!r} is no name for an artifact", remedy="use a relative path without ..")
        return f"{self.prefix}/{name}" if self.prefix else name

    def named(self, key: str) -> str | None:
        """What an object is called below this place: of the very place, its last part. None: it lies elsewhere.

        A key that ends in a slash is a folder's mark, and none.
        """
        if key == self.prefix:
            return key.rpartition("/")[2]
        below = f"{self.prefix}/" if self.prefix else ""
        return key.removeprefix(below) if key.startswith(below) and not key.endswith("/") else None


def parse_place(url: str) -> Place:
    """Bucket and prefix of `scheme://bucket/prefix`. UsageError: there is no bucket in it."""
    parts = urlsplit(url)
    if not parts.netloc:
        raise UsageError(f"{url!r} names no bucket", remedy=f"write it as {parts.scheme}://BUCKET/PREFIX")
    return Place(parts.netloc, parts.path.strip("/"))


def part_size(size: int, asked: int | None, *, least: int, most_parts: int, grain: int, url: str) -> int:
    """Bytes of each part but the last: what was asked for, else 64 MiB, raised until the parts are few enough.

    UsageError, before the first byte is sent, for a size that the store would refuse at the very end.
    """
    if asked is not None and asked < least:
        raise UsageError(
            f"{url}: parts of {asked} bytes are below this store's least of {least}",
            remedy=f"set the part size to {least} or more, or leave it out",
        )
    wanted = max(asked or DEFAULT_PART_BYTES, -(-size // most_parts), least)
    return -(-wanted // grain) * grain


def require_whole(upload: Upload, parts: list[Part]) -> list[Part]:
    """The parts in order. StepFailed, naming the object, when they do not add up to it."""
    ordered = sorted(parts, key=lambda p: p.number)
    offset = 0
    for number, part in enumerate(ordered, start=1):
        if part.number != number or part.offset != offset:
            raise StepFailed(f"{upload.key}: part {number} is missing or out of place")
        offset += part.length
    if offset != upload.bytes:
        raise StepFailed(
            f"{upload.key}: its parts are {offset} bytes together, not {upload.bytes}",
            remedy="the file changed while it was uploaded: upload it again",
        )
    return ordered


def one_or_below(place: Place, found: list[SourceFile]) -> list[SourceFile]:
    """Of what was found the object at the place itself; where there is none, all below it."""
    return [file for file in found if file.key == place.prefix] or found
