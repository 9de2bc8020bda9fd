"""Adding up what the workers find, tensor by tensor."""

import threading
from collections.abc import Sequence

import numpy as np

from dllama_glm.checkpoint.sources import Source
from dllama_glm.convert.chunks import Chunk
from dllama_glm.formats.float_types import BLOCK_VALUES
from dllama_glm.quantise.encode import Bytes
from dllama_glm.verify.report import Difference, TensorReport

_PLACES = 100


class Tally:
    """Counts for every tensor; `add` may be called from several threads."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._values = np.zeros(len(sources), np.int64)
        self._checked = np.zeros(len(sources), np.int64)
        self._different = np.zeros(len(sources), np.int64)
        self._largest = np.zeros(len(sources))
        self._squares = np.zeros(len(sources))
        self._places: list[Difference] = []
        self._lock = threading.Lock()
        self.read = 0

    def add(self, chunk: Chunk, expected: Bytes, found: Bytes, largest: float, squares: float) -> None:
        """Compare one chunk's bytes and add its errors."""
        bad = [] if np.array_equal(expected, found) else _bad_blocks(chunk, expected, found)
        with self._lock:
            index = chunk.index
            self.read += chunk.read_bytes
            self._values[index] += chunk.count
            self._checked[index] += -(-chunk.count // BLOCK_VALUES)
            self._different[index] += len(bad)
            self._largest[index] = max(self._largest[index], largest)
            self._squares[index] += squares
            self._places += bad[:_PLACES]

    def places(self) -> tuple[Difference, ...]:
        """The first differing blocks in file order."""
        return tuple(sorted(self._places, key=lambda place: place.offset)[:_PLACES])

    def tensors(self) -> tuple[TensorReport, ...]:
        """Every tensor's counts, in file order."""
        return tuple(self._tensor(index, source) for index, source in enumerate(self._sources))

    def _tensor(self, index: int, source: Source) -> TensorReport:
        mean = self._squares[index] / max(int(self._values[index]), 1)
        return TensorReport(
            source.slot.name,
            source.slot.float_type.name.lower(),
            -(-source.slot.values // BLOCK_VALUES),
            int(self._checked[index]),
            int(self._different[index]),
            float(self._largest[index]),
            float(np.sqrt(mean)),
        )


def _bad_blocks(chunk: Chunk, expected: Bytes, found: Bytes) -> list[Difference]:
    slot = chunk.source.slot
    size = slot.float_type.nbytes(BLOCK_VALUES)
    wrong = np.flatnonzero(expected != found)
    blocks, first = np.unique(wrong // size, return_index=True)
    places = []
    for block, byte in zip(blocks.tolist(), wrong[first].tolist(), strict=True):
        value = chunk.start + block * BLOCK_VALUES
        if not slot.float_type.blocked:
            # Single values, not blocks, differ: a group of 32 may reach over the end of a row.
            value = chunk.start + byte // slot.float_type.nbytes(1)
        row, column = divmod(value, slot.columns)
        places.append(Difference(slot.name, row, column // BLOCK_VALUES, chunk.write_offset + byte))
    return places
