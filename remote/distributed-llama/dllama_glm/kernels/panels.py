"""Many tokens: rows of weights are unpacked once into a panel, which then serves all of them (`tiles.py`).

A panel of bytes holds LANES rows: for each block of 32 columns eight vectors, vector j with columns 4j to 4j + 3 of
every row. A panel of floats holds FLOAT_ROWS rows, column after column.
"""

from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from dllama_glm.kernels.build import kernel
from dllama_glm.kernels.level import LANES
from dllama_glm.kernels.memory import load_f32, load_lane_scales, store
from dllama_glm.kernels.rows import Q40_ROWS, expand
from dllama_glm.kernels.vectors import I32, I64, code, constant, join, shuffle

FLOAT_ROWS = 16
BLOCK = 32 * LANES  # bytes of a block in a panel
SCALES = 4 * LANES  # bytes of a block's scales


def _transposed(b: Any, at: Any, stride: Any) -> list[Any]:
    """16 bytes of each of LANES rows as four vectors of 32-bit words: vector j has word j of every row."""
    words = ir.VectorType(I32, 4)
    rows = []
    for _ in range(LANES):
        rows.append(b.load(b.inttoptr(at, words.as_pointer()), align=1))
        at = b.add(at, stride)
    quads = []
    for i in range(4):
        parts = rows[i::4]
        while len(parts) > 1:
            parts = [join(b, *parts[k : k + 2]) for k in range(0, len(parts), 2)]
        quads.append(parts[0])
    return _lanes_transposed(b, quads)


def _lanes_transposed(b: Any, quads: list[Any]) -> list[Any]:
    """In each group of four lanes, the 4 x 4 words of four vectors turned over."""
    starts = range(0, LANES, 4)

    def singles(x: Any, y: Any, first: int) -> Any:
        places = ([s + first, LANES + s + first, s + first + 1, LANES + s + first + 1] for s in starts)
        return shuffle(b, x, list(chain.from_iterable(places)), y)

    def doubles(x: Any, y: Any, first: int) -> Any:
        places = ([s + first, s + first + 1, LANES + s + first, LANES + s + first + 1] for s in starts)
        return shuffle(b, x, list(chain.from_iterable(places)), y)

    upper, lower = ([singles(quads[k], quads[k + 1], first) for k in (0, 2)] for first in (0, 2))
    return [doubles(pair[0], pair[1], first) for pair in (upper, lower) for first in (0, 2)]


def _stored(b: Any, words: Any, to: Any, place: int) -> None:
    b.store(words, b.inttoptr(b.add(to, ir.Constant(I64, 4 * LANES * place)), words.type.as_pointer()), align=4)


@intrinsic
def _unpack_q40(_context: Any, at: Any, stride: Any, to: Any) -> Any:  # noqa: ARG001 - an intrinsic declares its arguments
    """The 16 code bytes at `at` of LANES rows, as a block of a panel."""

    def build(b: Any, a: list[Any]) -> None:
        for place, words in enumerate(_transposed(b, a[0], a[1])):
            mask = constant(words.type, 0x0F0F0F0F)
            _stored(b, b.and_(words, mask), a[2], place)
            _stored(b, b.and_(b.lshr(words, constant(words.type, 4)), mask), a[2], place + 4)

    return types.void(types.int64, types.int64, types.int64), code(build)


@intrinsic
def _unpack_bytes(_context: Any, at: Any, stride: Any, to: Any) -> Any:  # noqa: ARG001 - as above
    """The same for 16 bytes of Q80, half a block."""

    def build(b: Any, a: list[Any]) -> None:
        for place, words in enumerate(_transposed(b, a[0], a[1])):
            _stored(b, words, a[2], place)

    return types.void(types.int64, types.int64, types.int64), code(build)


@kernel("void(int64, int64, int64, int64, int64)")
def unpack(kind: int, at: int, stride: int, columns: int, panel: int) -> None:
    """LANES rows as a panel of bytes, with their scales, a vector a block, behind it."""
    blocks = columns // 32
    scales = panel + BLOCK * blocks
    size = np.int64(18) if kind == Q40_ROWS else np.int64(34)
    for i in range(blocks):
        block = at + size * i
        if kind == Q40_ROWS:
            _unpack_q40(block + 2, stride, panel + BLOCK * i)
        else:
            _unpack_bytes(block + 2, stride, panel + BLOCK * i)
            _unpack_bytes(block + 18, stride, panel + BLOCK * i + BLOCK // 2)
        store(scales + SCALES * i, load_lane_scales(block, stride))


@kernel("void(int64, int64, int64, int64, int64)")
def unpack_floats(kind: int, at: int, stride: int, columns: int, panel: int) -> None:
    """FLOAT_ROWS rows as a panel of floats; behind it must be room for one row."""
    row = panel + 4 * FLOAT_ROWS * columns
    for r in range(FLOAT_ROWS):
        expand(kind, at + r * stride, columns, row)
        for i in range(columns):
            store(panel + 4 * (FLOAT_ROWS * i + r), load_f32(row + 4 * i))
