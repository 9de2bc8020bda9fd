"""Reading, encoding and writing, side by side."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from dllama_glm.convert.chunks import Chunk
from dllama_glm.convert.crew import Crew
from dllama_glm.convert.errors import BadValue
from dllama_glm.convert.output import Output
from dllama_glm.convert.reader import ShardReader
from dllama_glm.formats.float_types import BLOCK_VALUES, FloatType
from dllama_glm.quantise.encode import ITEM_BYTES, Bytes, Encoder, NotStorable, widen

_SYNC_BYTES = 256 << 20

Encoders: TypeAlias = Mapping[FloatType, Encoder]


def ready_encoders(chunks: Sequence[Chunk]) -> Encoders:
    """What these chunks are encoded with; loads the loops, or compiles them."""
    encoders = {kind: Encoder(kind) for kind in {chunk.source.slot.float_type for chunk in chunks}}
    for encoder in encoders.values():
        encoder.warm_up()
    return encoders


class Pipeline:
    """Converts a list of chunks into an output. `run` once; counters may be read at any time by another thread."""

    def __init__(
        self, chunks: Sequence[Chunk], reader: ShardReader, output: Output, workers: int, encoders: Encoders
    ) -> None:
        self.read = 0
        self.written = 0
        self._reader = reader
        self._output = output
        self._crew = Crew(chunks, reader.ask, workers)
        self._left = Counter(chunk.index for chunk in chunks)
        self._encoders = encoders
        self._unsynced = 0
        self._syncing = threading.Lock()
        self._lock = threading.Lock()

    @property
    def tensor(self) -> str:
        """The tensor in hand."""
        return self._crew.tensor

    def run(self, watch: Callable[[], None], every: float) -> None:
        """Convert everything, calling `watch` every `every` seconds from this thread; raises the first error met."""
        self._crew.run(self._convert, watch, every)

    def _convert(self, chunk: Chunk, out: Bytes) -> None:
        encoder = self._encoders[chunk.source.slot.float_type]
        try:
            encoder.encode(self._reader.read(chunk), chunk.source.tensor.dtype, out)
        except NotStorable as error:
            raise BadValue(bad_value(chunk, self._reader.read(chunk), error.first)) from None
        self._output.write(chunk.write_offset, out.data)
        with self._lock:
            self.read += chunk.read_bytes
            self.written += chunk.write_bytes
            self._unsynced += chunk.write_bytes
            self._left[chunk.index] -= 1
            if not self._left[chunk.index]:
                self._output.finished(chunk.index)
        self._maybe_sync()

    def _maybe_sync(self) -> None:
        """Keep the disk busy while others compute, so that little is left to wait for at the end."""
        if self._unsynced < _SYNC_BYTES or not self._syncing.acquire(blocking=False):
            return
        try:
            self._unsynced = 0
            self._output.sync()
        finally:
            self._syncing.release()


def bad_value(chunk: Chunk, source: Bytes, group: int) -> str:
    """Where and what the value is that cannot be stored: group `group` of 32 values of the chunk's `source` bytes."""
    slot, tensor = chunk.source.slot, chunk.source.tensor
    size = ITEM_BYTES[tensor.dtype] * BLOCK_VALUES
    values = widen(source[group * size : (group + 1) * size], tensor.dtype)
    first = chunk.start + group * BLOCK_VALUES
    where = f"{tensor.file.name}: {slot.name}, row {first // slot.columns}, values from {first % slot.columns} on"
    if not np.isfinite(values).all():
        return f"{where}: {values[~np.isfinite(values)][0]} is no finite number"
    what = "value" if slot.float_type is FloatType.F16 else "scale of the block"
    return f"{where}: the {what} of {np.abs(values).max():g} does not fit a {slot.float_type.name} half"
