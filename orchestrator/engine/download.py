"""One file from a store to this computer: ranges side by side, kept when it is cut, and its sha256 on the way.

Which ranges have arrived is noted in a second file beside the half one; a process that dies loses what was under way.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.reach import patiently
from orchestrator.words.errors import StepFailed, StoreUnavailable
from orchestrator.words.store import ArtifactStore
from orchestrator.words.waiting import Clock

SPAN = 16 << 20  # bytes of one range
NOTES = ".partial"  # no artifact has such a name, so no half file of another one is called so


class Download:
    """One file on its way from a store: its ranges may be fetched in any order, by several threads."""

    def __init__(
        self,
        store: ArtifactStore,
        file: ManifestFile,
        half: Path,
        clock: Clock,
        check: Callable[[], None] = lambda: None,
        told: Callable[[int, int], None] = lambda _bytes, _moved: None,
    ) -> None:
        """Ask for the file. FileNotFoundError: the store has none. StepFailed: it has another size than was listed.

        `check` raises to give it up, `told` hears how many bytes are there, and how many of them just came.
        """
        self._store, self._file, self._clock, self._check, self._told = store, file, clock, check, told
        found = patiently(clock, partial(store.head, file.name), check=check)
        if found is None:
            raise FileNotFoundError(f"{store.url} has no {file.name}")
        if found.bytes != file.bytes:
            raise StepFailed(
                f"{file.name} has {found.bytes:,} bytes in {store.url}, not the {file.bytes:,} of the manifest"
            )
        self._half = Half(half, file)

    def missing(self) -> list[int]:
        """The numbers of the ranges that are still to come."""
        return self._half.missing()

    def fetch(self, span: int) -> None:
        """Bring one range; a store that fails is asked again for five minutes (StoreUnavailable)."""
        offset = span * SPAN
        length = min(SPAN, self._file.bytes - offset)
        ask = partial(self._store.read, self._file.name, offset, length)
        put = partial(self._half.put, offset, length)
        patiently(self._clock, lambda: put(_checked(ask(), self._check)), check=self._check)
        self._half.note(span)
        self._told(self._half.size, length)

    def sha256(self) -> str:
        """Of the whole, when nothing is missing."""
        return self._half.sha256()

    def close(self) -> None:
        """Close what is open; what has arrived is kept."""
        self._half.close()


def arrived(half: Path) -> int:
    """The bytes that a half file takes on the disk: it may have holes."""
    return half.stat().st_blocks * 512 if half.exists() else 0


def forget(half: Path) -> None:
    """Remove a half file and what is noted of it."""
    half.unlink(missing_ok=True)
    notes_of(half).unlink(missing_ok=True)


def notes_of(half: Path) -> Path:
    """Where it is noted which ranges of a half file have arrived."""
    return half.with_name(half.name + NOTES)


class Half:
    """A file on its way here. Threads put ranges into it; what is there from its beginning on is hashed meanwhile."""

    def __init__(self, path: Path, file: ManifestFile) -> None:
        self._path, self._file = path, file
        self._count = -(-file.bytes // SPAN)
        self._here = self._noted()
        self.size = sum(map(self._length, self._here))  # bytes that are here
        self._hash, self._hashed = hashlib.sha256(), 0  # so many ranges are in it
        self._noting, self._hashing = threading.Lock(), threading.Lock()
        if not self._here:
            forget(path)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._notes = notes_of(path).open("a")
        if not self._here:
            self._notes.write(self._title)
            self._notes.flush()

    def close(self) -> None:
        """Close both files."""
        self._notes.close()
        os.close(self._fd)

    @property
    def _title(self) -> str:
        return f"{self._file.sha256} {self._file.bytes} {SPAN}\n"

    def _noted(self) -> set[int]:
        """The ranges that an earlier try brought of this very content."""
        with contextlib.suppress(OSError, ValueError):
            title, *spans = notes_of(self._path).read_text().splitlines(keepends=True)
            if title == self._title and self._path.exists():
                return {n for line in spans if line.endswith("\n") and 0 <= (n := int(line)) < self._count}
        return set()

    def _length(self, span: int) -> int:
        return min(SPAN, self._file.bytes - span * SPAN)

    def missing(self) -> list[int]:
        """The numbers of the ranges that are not here."""
        return [span for span in range(self._count) if span not in self._here]

    def put(self, offset: int, length: int, chunks: Iterator[bytes]) -> None:
        """Write one range. StoreUnavailable: it ended before its end."""
        at, end = offset, offset + length
        for chunk in chunks:
            if at + len(chunk) > end:
                raise StepFailed(f"{self._file.name} is longer than the {self._file.bytes:,} bytes that were listed")
            at = self._write(chunk, at)
        if at < end:
            raise StoreUnavailable(f"{self._file.name}: the store sent {at - offset:,} of {length:,} bytes")

    def _write(self, chunk: bytes, at: int) -> int:
        """Write all of it there; return where it ends."""
        left = memoryview(chunk)
        try:
            while left:
                wrote = os.pwrite(self._fd, left, at)
                left, at = left[wrote:], at + wrote
        except OSError as error:
            raise StepFailed(f"{self._path} cannot be written: {error.strerror}") from error
        return at

    def note(self, span: int) -> None:
        """That range is here."""
        with self._noting:
            self._here.add(span)
            self.size += self._length(span)
            self._notes.write(f"{span}\n")
            self._notes.flush()
        if self._hashing.acquire(blocking=False):  # whoever holds it goes on until nothing more is here
            try:
                self._go_on_hashing()
            finally:
                self._hashing.release()

    def _go_on_hashing(self) -> None:
        while self._hashed in self._here:
            self._hash.update(os.pread(self._fd, SPAN, self._hashed * SPAN))
            self._hashed += 1

    def sha256(self) -> str:
        """Of the whole, which is on the disk then."""
        with self._hashing:
            self._go_on_hashing()
        os.fsync(self._fd)
        return self._hash.hexdigest()


def _checked(chunks: Iterator[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        check()
        yield chunk
