"""Reading, encoding and writing side by side: threads that each carry one chunk through all three."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dllama_glm.convert.chunks import Chunk
from dllama_glm.convert.errors import BadValue
from dllama_glm.convert.output import Output
from dllama_glm.convert.reader import ShardReader
from dllama_glm.formats.float_types import BLOCK_VALUES, FloatType
from dllama_glm.quantise.encode import ITEM_BYTES, Bytes, Encoder, NotStorable, widen

# Asked for ahead of the chunk in hand: enough to keep a disk or a network volume busy.
_AHEAD_BYTES = 64 << 20
_SYNC_BYTES = 256 << 20


@dataclass(frozen=True)
class Settings:
    """`chunk_values`: values in one piece of work; `workers`: threads that convert."""

    chunk_values: int
    workers: int


def settings(*, low_memory: bool) -> Settings:
    """One worker a core and one more, since one often waits for the disk; fewer and smaller with `low_memory`."""
    cores = len(os.sched_getaffinity(0))
    return Settings(1 << 18, min(cores, 2)) if low_memory else Settings(1 << 20, min(cores, 16) + 1)


class Pipeline:
    """Converts a list of chunks into an output. `run` once; counters may be read at any time by another thread."""

    def __init__(self, chunks: Sequence[Chunk], reader: ShardReader, output: Output, workers: int) -> None:
        self.read = 0
        self.written = 0
        self.tensor = ""
        self._chunks = chunks
        self._reader = reader
        self._output = output
        self._workers = workers
        self._left = Counter(chunk.index for chunk in chunks)
        self._encoders = {kind: Encoder(kind) for kind in {chunk.source.slot.float_type for chunk in chunks}}
        self._next = 0
        self._taken_bytes = 0
        self._asked = 0
        self._asked_bytes = 0
        self._unsynced = 0
        self._syncing = threading.Lock()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._errors: list[BaseException] = []

    def warm_up(self) -> None:
        """Load or compile the loops that will be needed."""
        for encoder in self._encoders.values():
            encoder.warm_up()

    def run(self, watch: Callable[[], None], every: float) -> None:
        """Convert everything, calling `watch` every `every` seconds from this thread; raises the first error met."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._workers)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(every)
                    watch()
        except BaseException:
            self._stop.set()
            for thread in threads:
                thread.join()
            raise
        if self._errors:
            raise self._errors[0]

    def _work(self) -> None:
        """A worker's life; whatever stops it stops the others and is raised by `run`."""
        buffer = np.empty(max(chunk.write_bytes for chunk in self._chunks), np.uint8)
        try:
            while not self._stop.is_set() and (chunk := self._take()) is not None:
                self._convert(chunk, buffer)
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits
            with self._lock:
                self._errors.append(error)
            self._stop.set()

    def _take(self) -> Chunk | None:
        with self._lock:
            if self._next == len(self._chunks):
                return None
            chunk = self._chunks[self._next]
            self._next += 1
            self.tensor = chunk.source.slot.name
            self._taken_bytes += chunk.read_bytes
            ahead: list[Chunk] = []
            while self._asked < len(self._chunks) and self._asked_bytes < self._taken_bytes + _AHEAD_BYTES:
                ahead.append(self._chunks[self._asked])
                self._asked_bytes += self._chunks[self._asked].read_bytes
                self._asked += 1
        for one in ahead:
            self._reader.ask(one)
        return chunk

    def _convert(self, chunk: Chunk, buffer: Bytes) -> None:
        out = buffer[: chunk.write_bytes]
        try:
            self._encoders[chunk.source.slot.float_type].encode(
                self._reader.read(chunk), chunk.source.tensor.dtype, out
            )
        except NotStorable as error:
            raise BadValue(self._place(chunk, error.first)) from None
        self._output.write(chunk.write_offset, out.data)
        self._reader.let_go(chunk)
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

    def _place(self, chunk: Chunk, group: int) -> str:
        """Where and what the value is that cannot be stored."""
        slot, tensor = chunk.source.slot, chunk.source.tensor
        size = ITEM_BYTES[tensor.dtype] * BLOCK_VALUES
        values = widen(self._reader.read(chunk)[group * size : (group + 1) * size], tensor.dtype)
        first = chunk.start + group * BLOCK_VALUES
        where = f"{tensor.file.name}: {slot.name}, row {first // slot.columns}, values from {first % slot.columns} on"
        if not np.isfinite(values).all():
            return f"{where}: {values[~np.isfinite(values)][0]} is no finite number"
        what = "value" if slot.float_type is FloatType.F16 else "scale of the block"
        return f"{where}: the {what} of {np.abs(values).max():g} does not fit a {slot.float_type.name} half"
