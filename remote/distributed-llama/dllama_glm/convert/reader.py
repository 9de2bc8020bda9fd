"""Reading chunks from mapped shards: asked for ahead of time, and let go of once read."""

import contextlib
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.convert.chunks import Chunk

Bytes: TypeAlias = npt.NDArray[np.uint8]


class ShardReader:
    """The shards of a checkpoint, mapped. `close` (or the process's end) gives them back."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._descriptors: dict[Path, int] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        self._bytes: dict[Path, Bytes] = {}
        for file in files:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors[file] = descriptor
            self._maps[file] = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            self._bytes[file] = np.frombuffer(self._maps[file], np.uint8)

    def ask(self, chunk: Chunk) -> None:
        """Have the system read a chunk in the background; a hint, which some file systems do not take."""
        descriptor = self._descriptors[chunk.source.tensor.file]
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, chunk.read_offset, chunk.read_bytes, os.POSIX_FADV_WILLNEED)

    def read(self, chunk: Chunk) -> Bytes:
        """The chunk's bytes: a view of the mapping, or a copy where heads are interleaved."""
        whole = self._bytes[chunk.source.tensor.file]
        part = whole[chunk.read_offset : chunk.read_offset + chunk.read_bytes]
        return interleave(part, chunk) if chunk.source.heads else part

    def let_go(self, chunk: Chunk) -> None:
        """Drop the chunk's pages from this process (they stay in the system's cache)."""
        start = -(-chunk.read_offset // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (chunk.read_offset + chunk.read_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start:
            self._maps[chunk.source.tensor.file].madvise(mmap.MADV_DONTNEED, start, end - start)

    def close(self) -> None:
        """Close every shard."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self._bytes.clear()
        self._maps.clear()


def interleave(part: Bytes, chunk: Chunk) -> Bytes:
    """Whole heads with their rows in the order 0, h/2, 1, h/2 + 1, ...: halves become adjacent pairs."""
    slot, heads = chunk.source.slot, chunk.source.heads
    rows = slot.shape[0] // heads
    halves = part.reshape(chunk.count * heads // slot.values, 2, rows // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(-1)
