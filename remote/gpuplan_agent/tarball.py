"""A tar of files as they are on the disk, without a copy of it: any range of it can be made, again and again.

What stands where follows from names, sizes and who may run a file: it is the same on every machine, so an upload that
was cut goes on from any byte, in another process or on another machine. The controller knows the same layout
(orchestrator/engine/packs.py; a test compares): it takes no other tar.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import Callable, Iterator, NamedTuple

from gpuplan_agent.content import BLOCK
from gpuplan_agent.hashing import sha256_of
from gpuplan_agent.places import open_regular
from gpuplan_agent.wire import AgentError

UNIT, RECORD = 512, 10240  # bytes; all of a tar is a multiple of the second
MTIME = 315532800  # the first second of 1980: a time of 0 is called implausible by some
LARGEST = 8**11 - 1  # size that the plain header can say


class Member(NamedTuple):
    """One file: its name in the tar, where it lies, and what it was when the tar was laid out."""

    name: str
    path: str
    size: int
    executable: bool
    mtime_ns: int
    inode: int
    sha256: str

    @property
    def span(self) -> int:
        """Bytes from its header to the next one's."""
        plain = self.name.isascii() and len(self.name) <= 100 and self.size <= LARGEST
        front = UNIT if plain else len(header(self.name, self.size, executable=self.executable))
        return front + self.size + -self.size % UNIT


class Tar:
    """The tar of these members, in their order. Several threads may read it."""

    def __init__(self, members: list[Member], sha256: str = "") -> None:
        self.members, self._sha256 = members, sha256
        self._starts: list[int] = []
        at = 0
        for member in members:
            self._starts.append(at)
            at += member.span
        self._end = at
        self.size = -(-(at + 2 * UNIT) // RECORD) * RECORD
        self._proven: set[tuple[str, int, int]] = set()  # of other times or inodes, and the same content

    def require(self) -> None:
        """Its files are looked at one by one, when they are read."""

    def sha256(self, _on_bytes: Callable[[int], None]) -> str:
        """As it was laid out; what has changed since is found by whoever reads it."""
        return self._sha256

    def read(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes of a range, block by block. AgentError changed: a file is not what it was, by its name."""
        block = bytearray()
        for piece in self._pieces(offset, offset + length):
            block += piece
            if len(block) >= BLOCK:
                yield bytes(block)
                block.clear()
        if block:
            yield bytes(block)

    def _pieces(self, offset: int, end: int) -> Iterator[bytes]:
        for number in range(max(bisect_right(self._starts, offset) - 1, 0), len(self.members)):
            start = self._starts[number]
            if start >= end:
                return
            span = self.members[number].span
            yield from self._of_member(self.members[number], max(offset - start, 0), min(end - start, span))
        if end > self._end:
            yield bytes(end - max(offset, self._end))

    def _of_member(self, member: Member, low: int, high: int) -> Iterator[bytes]:
        """What lies between two offsets from the beginning of a member's header."""
        front = header(member.name, member.size, executable=member.executable)
        if low < len(front):
            yield front[low:high]
        first, last = max(low - len(front), 0), min(high - len(front), member.size)
        if first < last:
            yield from self._of_file(member, first, last)
        padding = high - max(low, len(front) + member.size)
        if padding > 0:
            yield bytes(padding)

    def _of_file(self, member: Member, at: int, end: int) -> Iterator[bytes]:
        try:
            file = open_regular(member.path)
        except OSError as error:
            raise _changed(member, f"cannot be read any more: {error.strerror}") from error
        with file:
            self._require_same(member, os.fstat(file.fileno()))
            while at < end:
                block = os.pread(file.fileno(), min(BLOCK, end - at), at)
                if not block:
                    raise _changed(member, "became shorter")
                yield block
                at += len(block)
            self._require_same(member, os.fstat(file.fileno()))

    def _require_same(self, member: Member, now: os.stat_result) -> None:
        """AgentError changed: it is another file. One that was touched, or lies on a volume anew, is read again."""
        as_it_was = (member.size, member.mtime_ns, member.inode)
        as_it_is = (now.st_size, now.st_mtime_ns, now.st_ino)
        if as_it_was == as_it_is or (member.name, *as_it_is[1:]) in self._proven:
            return
        if now.st_size != member.size or sha256_of(member.path) != member.sha256:
            raise _changed(member, "changed after it was packed")
        self._proven.add((member.name, *as_it_is[1:]))


def _changed(member: Member, how: str) -> AgentError:
    return AgentError("changed", f"{member.path} {how}")


def header(name: str, size: int, *, executable: bool) -> bytes:
    """What stands before a file's bytes: one block as POSIX has it, and what does not fit in it before that."""
    path = name.encode("utf-8", "surrogateescape")
    more = b""
    if len(path) > 100 or not name.isascii():
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
