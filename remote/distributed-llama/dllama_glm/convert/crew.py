"""Threads that share a list of chunks, each carrying one at a time, with reading asked for ahead of them."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from dllama_glm.convert.chunks import Chunk
from dllama_glm.quantise.encode import Bytes
from dllama_glm.runtime.machine import cores

Work: TypeAlias = Callable[[Chunk, Bytes], None]

# Asked for ahead of the chunk in hand: enough to keep a disk or a network volume busy.
_AHEAD_BYTES = 64 << 20


def crew_size(*, low_memory: bool = False) -> int:
    """One worker a core and one more, since one often waits for the disk."""
    granted = cores()
    return min(granted, 2) if low_memory else min(granted, 16) + 1


class Crew:
    """Does some work for every chunk. `run` once; `tensor` names the last one begun and may be read at any time."""

    def __init__(self, chunks: Sequence[Chunk], ask: Callable[[Chunk], None], workers: int) -> None:
        self.tensor = ""
        self._chunks = chunks
        self._ask = ask
        self._workers = min(workers, max(len(chunks), 1))
        self._next = 0
        self._taken_bytes = 0
        self._asked = 0
        self._asked_bytes = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._errors: list[BaseException] = []

    def run(self, work: Work, watch: Callable[[], None], every: float) -> None:
        """Call `work(chunk, buffer)` for every chunk, from several threads at once; the buffer has room for its output.

        Meanwhile `watch` is called every `every` seconds from this thread, and once more when all is done. The first
        error stops all and is raised.
        """
        threads = [threading.Thread(target=self._work, args=(work,), daemon=True) for _ in range(self._workers)]
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
        watch()

    def _work(self, work: Work) -> None:
        try:
            buffer = np.empty(max((chunk.write_bytes for chunk in self._chunks), default=0), np.uint8)
            while not self._stop.is_set() and (chunk := self._take()) is not None:
                work(chunk, buffer[: chunk.write_bytes])
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
            self._ask(one)
        return chunk
