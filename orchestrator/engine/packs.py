"""A folder that is stored as one tar: what it looks like to the byte, and its bytes as files again.

The layout follows from names, sizes and who may run a file alone, as the machine makes it (remote/gpuplan_agent/
tarball.py; a test compares). No header is read here: each is compared with the one that must stand there, so no link,
device, way out or second name can be in what is unpacked.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.engine.effects import ManifestFile
from orchestrator.plan.globs import matches
from orchestrator.words.errors import StepFailed

UNIT, RECORD = 512, 10240  # bytes; all of a tar is a multiple of the second
MTIME = 315532800  # the first second of 1980
LARGEST = 8**11 - 1  # size that the plain header can say
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Pack:
    """The tar, as the stores have it, and the artifacts that it holds, by their own names, in its order."""

    file: ManifestFile
    members: tuple[ManifestFile, ...]

    def header(self, member: ManifestFile, *, executable: bool) -> bytes:
        """What stands before a member's bytes."""
        return header(
            posixpath.relpath(member.name, posixpath.dirname(self.file.name) or "."),
            member.bytes,
            executable=executable,
        )

    def starts(self) -> Iterator[tuple[ManifestFile, int]]:
        """Each member and where its header begins."""
        at = 0
        for member in self.members:
            yield member, at
            at += self._span(member)

    def _span(self, member: ManifestFile) -> int:
        """Bytes from its header to the next one's."""
        return len(self.header(member, executable=False)) + member.bytes + -member.bytes % UNIT

    @property
    def bytes(self) -> int:
        """What such a tar weighs."""
        end = sum(map(self._span, self.members))
        return -(-(end + 2 * UNIT) // RECORD) * RECORD

    @property
    def said(self) -> str:
        """What it is, in words."""
        return f"{self.file.name} packs {counted(len(self.members))}, {self.file.bytes:,} bytes"

    def tops(self, file: BinaryIO) -> dict[str, tuple[int, bool]]:
        """Name of each member -> where its bytes begin, and whether it may be run. StepFailed: it is no such tar."""
        if os.fstat(file.fileno()).st_size != self.bytes:
            raise self.refused(f"it has not the {self.bytes:,} bytes of the files that were listed")
        found = {}
        for member, at in self.starts():
            plain, executable = (self.header(member, executable=which) for which in (False, True))
            file.seek(at)
            if (there := file.read(len(plain))) not in (plain, executable):
                raise self.refused(f"it has something else where {member.name} was listed")
            found[member.name] = (at + len(plain), there == executable)
        return found

    def refused(self, why: str) -> StepFailed:
        """Why nothing of it is unpacked."""
        return StepFailed(
            f"{self.file.name} is refused: {why}", remedy="nothing of it was unpacked; run the step again"
        )


def counted(files: int) -> str:
    """So many files, in words."""
    return "1 file" if files == 1 else f"{files:,} files"


def loose(files: Sequence[ManifestFile], packs: Mapping[str, Pack]) -> list[ManifestFile]:
    """The artifacts under their own names, as they lie on the machine and at home, whatever they are stored in."""
    return [one for file in files for one in (packs[file.name].members if file.name in packs else (file,))]


def like(files: Sequence[ManifestFile], packs: Mapping[str, Pack], glob: str) -> list[ManifestFile]:
    """The artifacts under their own names that match a glob; all of a tar whose own name does."""
    named = [file for file in files if matches(file.name, glob)]
    inner = [one for pack in packs.values() for one in pack.members if matches(one.name, glob)]
    return list(dict.fromkeys((*loose(named, packs), *inner)))


def copy(file: BinaryIO, offset: int, member: ManifestFile, to: Path, *, executable: bool) -> None:
    """Write one member's bytes to a file that is not there yet. StepFailed: they are not what was listed."""
    file.seek(offset)
    digest, left = hashlib.sha256(), member.bytes
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(to, flags, 0o777 if executable else 0o666), "wb") as out:
        while left:
            chunk = file.read(min(CHUNK, left))
            digest.update(chunk)
            out.write(chunk)
            left -= len(chunk)
    if digest.hexdigest() != member.sha256:
        to.unlink()
        raise StepFailed(f"{member.name} has another sha256 than was listed: it is not unpacked")


def header(name: str, size: int, *, executable: bool) -> bytes:
    """One block as POSIX has it, and what does not fit in it before that."""
    path, more = name.encode("utf-8", "surrogateescape"), b""
    if len(path) > 100 or not name.isascii():  # bytes of its field
        more += _record(b"path", path)
    if size > LARGEST:
        more += _record(b"size", b"%d" % size)
    front = _block(b"PaxHeader", len(more), b"x", 0o644) + more + bytes(-len(more) % UNIT) if more else b""
    return front + _block(path[:100], size if size <= LARGEST else 0, b"0", 0o755 if executable else 0o644)


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE` and a new line; the length counts its own digits."""
    rest, length = len(key) + len(value) + 3, 0
    while length != rest + len(str(length)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(name: bytes, size: int, kind: bytes, mode: int) -> bytes:
    """512 bytes: nobody's file, of the one time, with a checksum of the block itself."""
    front = name.ljust(100, b"\0") + b"%07o\0" % mode + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % MTIME
    back = kind + bytes(100) + b"ustar\x0000" + bytes(247)
    return front + b"%06o\0 " % sum(front + b" " * 8 + back) + back
