"""Checksums of files, each computed once for as long as the file stays as it is."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Callable

from gpuplan_agent.places import home, open_regular, write_atomic

BLOCK = 4 << 20
PIECES, PIECE = 8, 16 << 10  # of `samples_of`


def sha256_of(path: str, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of a file, hexadecimal. `on_bytes` hears how much was read."""
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    with open_regular(path) as file:
        while True:
            count = file.readinto(buffer)
            if not count:
                return digest.hexdigest()
            digest.update(view[:count])
            on_bytes(count)


def samples_of(path: str) -> str:
    """SHA-256 of a file's size and of pieces spread evenly over it: what tells most changes without reading all of it.

    It is part of what versions to come read on volumes: how it is computed never changes.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        last = max(size - PIECE, 0)
        digest = hashlib.sha256(b"%d" % size)
        for at in sorted({last * number // (PIECES - 1) for number in range(PIECES)}):
            digest.update(os.pread(file.fileno(), PIECE, at))
    return digest.hexdigest()


class Cache:
    """What ~/.gpuplan/sha256.json remembers: a checksum holds while path, size, time and inode are the same."""

    def __init__(self) -> None:
        self._path = os.path.join(home(), "sha256.json")
        try:
            with open(self._path, encoding="utf-8") as file:
                self._known: dict[str, list[object]] = json.load(file)
        except (FileNotFoundError, ValueError):
            self._known = {}

    def get(self, path: str) -> str | None:
        """The checksum of a file, if it is known and the file has not changed."""
        entry = self._known.get(path)
        return str(entry[3]) if entry and entry[:3] == identity(path) else None

    def put(self, path: str, digest: str, identity: list[object]) -> None:
        """Remember a checksum of the file as it was when its reading began."""
        self._known[path] = [*identity, digest]

    def save(self) -> None:
        """Write it down. Of two savers at once one may lose what it added: it is computed again."""
        write_atomic(self._path, json.dumps(self._known).encode())


def identity(path: str) -> list[object]:
    """What changes when a file is written or replaced: size, time, inode."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ino]
