"""What the memory gives at best: a plain read."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dllama_glm.runtime.machine import available_memory
from dllama_glm.runtime.memory import take

_BEST_OF = 3
_SHARE = 4  # of the available memory, at most one part in so many is taken
_PIECE = 1 << 20


def read_gb_per_s(size: int, threads: int) -> float:
    """Read about `size` bytes of huge pages once with so many threads, best of three: 10^9 bytes a second."""
    pieces = max(threads, min(size, available_memory() // _SHARE) // _PIECE)
    words = take(pieces * _PIECE, huge=True).view(np.int64)
    words[:] = 1  # a page that was never written is read from no memory
    parts = np.array_split(words, threads)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_BEST_OF):
            began = time.perf_counter()
            list(pool.map(np.max, parts))
            best = min(best, time.perf_counter() - began)
    return words.nbytes / best / 1e9
