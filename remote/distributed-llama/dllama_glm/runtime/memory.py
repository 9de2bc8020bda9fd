"""Memory that is taken from the system at once, and weights that are brought into it."""

import ctypes
import mmap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.runtime.machine import available_memory
from dllama_glm.runtime.matrix import Matrix
from dllama_glm.runtime.weights import Weights

Bytes: TypeAlias = npt.NDArray[np.uint8]
_LINE = 64
_NORESERVE = 0x4000  # Linux: pages that are never touched count for nothing
_SHARE = 2  # weights are brought into memory where they take at most 1 / _SHARE of what is available


def take(size: int, *, huge: bool) -> Bytes:
    """Zeroed memory of its own, in huge pages if the system gives them; pages count from their first use on."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
    area = mmap.mmap(-1, max(size, 1), flags=flags)
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            area.madvise(mmap.MADV_HUGEPAGE)
        except OSError:  # a kernel without them: small pages do as well, only slower
            pass
    return np.frombuffer(area, np.uint8)


def fits(weights: Weights) -> bool:
    """Whether the weights take at most half of the memory that is available here."""
    return _SHARE * sum(matrix.nbytes for matrix in weights.matrices()) <= available_memory()


def brought_in(weights: Weights, threads: int) -> Weights:
    """The same weights, copied out of the mapped file into huge pages, rows close together.

    The embedding stays where it is: a token reads one row of it.
    """
    places: dict[tuple[int, int], tuple[Matrix, int]] = {}
    size = 0
    for matrix in weights.matrices():
        places[matrix.raw.ctypes.data, matrix.offset] = matrix, size
        size += -(-matrix.nbytes // _LINE) * _LINE
    area = take(size, huge=True)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda pair: _copy(pair[0], pair[1], area), places.values()))

    def moved(matrix: Matrix) -> Matrix:
        _, offset = places[matrix.raw.ctypes.data, matrix.offset]
        return replace(matrix, raw=area, offset=offset, stride=matrix.row_bytes)

    return weights.moved(moved)


def _copy(matrix: Matrix, offset: int, area: Bytes) -> None:
    if not matrix.nbytes:
        return
    start, rows = matrix.offset, (matrix.rows, matrix.row_bytes)
    source = np.lib.stride_tricks.as_strided(matrix.raw[start:], rows, (matrix.stride, 1), writeable=False)
    area[offset : offset + matrix.nbytes].reshape(rows)[:] = source
    _let_go(matrix.raw[start : start + (matrix.rows - 1) * matrix.stride + matrix.row_bytes])


def _let_go(raw: Bytes) -> None:
    """Take the file's pages out of this process's memory; the system's cache of the file keeps them."""
    libc, page = ctypes.CDLL(None), mmap.PAGESIZE
    first, last = -(-raw.ctypes.data // page) * page, (raw.ctypes.data + raw.size) // page * page
    if last > first and hasattr(mmap, "MADV_DONTNEED"):
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)
