"""Reading chunks of shards, asked for ahead of time.

By pread rather than from a mapping: a file that shrinks, or a network volume that fails, is an error with a name then,
where a mapping ends the process with SIGBUS.
"""

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.convert.chunks import Chunk

Bytes: TypeAlias = npt.NDArray[np.uint8]


class ShardReader:
    """The shards of a checkpoint, open. Safe to use from several threads; each has one buffer."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._descriptors = {file: os.open(file, os.O_RDONLY | os.O_CLOEXEC) for file in files}
        self._own = threading.local()

    def ask(self, chunk: Chunk) -> None:
        """Have the system read a chunk in the background; a hint, which some file systems do not take."""
        if sys.platform == "darwin":  # it takes no such hints
            return
        descriptor = self._descriptors[chunk.source.tensor.file]
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, chunk.read_offset, chunk.read_bytes, os.POSIX_FADV_WILLNEED)

    def read(self, chunk: Chunk) -> Bytes:
        """The chunk's bytes, in this thread's buffer until its next read. Raises OSError, naming the shard."""
        part = self._buffer(chunk.read_bytes)
        file, done = chunk.source.tensor.file, 0
        while done < chunk.read_bytes:
            try:
                count = os.preadv(self._descriptors[file], [part[done:].data], chunk.read_offset + done)
            except OSError as error:
                error.filename = str(file)
                raise
            if not count:
                raise OSError(errno.EIO, "is shorter than it was when the conversion began", str(file))
            done += count
        return interleave(part, chunk) if chunk.source.heads else part

    def _buffer(self, size: int) -> Bytes:
        held: Bytes | None = getattr(self._own, "buffer", None)
        if held is None or held.size < size:
            held = self._own.buffer = np.empty(size, np.uint8)
        return held[:size]

    def close(self) -> None:
        """Close every shard."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()


def interleave(part: Bytes, chunk: Chunk) -> Bytes:
    """Whole heads with their rows in the order 0, h/2, 1, h/2 + 1, ...: halves become adjacent pairs."""
    slot, heads = chunk.source.slot, chunk.source.heads
    rows = slot.shape[0] // heads
    halves = part.reshape(chunk.count * heads // slot.values, 2, rows // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(-1)
