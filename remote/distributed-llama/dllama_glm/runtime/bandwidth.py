"""What the memory gives at best: a plain read."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from dllama_glm.runtime.machine import available_memory
from dllama_glm.runtime.memory import take

_BEST_OF = 3
_SHARE = 4  # of the available memory, at most one part in so many is taken
_PIECE = 1 << 20


def plain_read(size: int, computed_by: Mapping[str, Any]) -> float:
    """Read about `size` bytes of what a model computes in (`model.Model.computed_by`): 10^9 bytes a second."""
    if "card" in computed_by:
        return card_gb_per_s(size, computed_by["card"])
    return read_gb_per_s(size, computed_by["threads"])


def card_gb_per_s(size: int, card: int) -> float:
    """Read about `size` bytes of a card's memory once, best of some."""
    import torch

    words = torch.ones(size // 4, dtype=torch.float32, device=f"cuda:{card}")
    best = float("inf")
    for _ in range(1 + _BEST_OF):  # the first one warms up
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        words.sum()
        ended.record()
        ended.synchronize()
        best = min(best, began.elapsed_time(ended) / 1e3)
    return size / best / 1e9


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
