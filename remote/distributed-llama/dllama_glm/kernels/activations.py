"""Activations on their way into a product: normed, gated, and cut into signed bytes with a scale for 32 of them.

Bytes of a row stand in the order in which Q40's nibbles come out of four blocks at once: the lower halves (values 0 to
15) of the four, then the upper halves. The blocks left over, and all blocks for weights in Q80, stand as they are.
"""

from typing import Any

import numpy as np

from dllama_glm.kernels.arithmetic import (
    absolute,
    add,
    divide,
    exponential,
    fill_16,
    fma,
    greater,
    largest,
    multiply,
    rounded,
    subtract,
    total,
    whole,
)
from dllama_glm.kernels.build import inlined, kernel
from dllama_glm.kernels.memory import load_f32, load_f32x16, store, store_narrow

_TINY = np.float32(1e-30)


@inlined
def _quantise_block(x: int, lower: int, upper: int) -> Any:
    """32 values at `x` as bytes, 16 at each address; returns the scale and the sum of the bytes."""
    a, b = load_f32x16(x), load_f32x16(x + 64)
    top = largest(greater(absolute(a), absolute(b)))
    inverse = np.float32(127.0) / top if top > _TINY else np.float32(0.0)
    first = whole(rounded(multiply(a, fill_16(inverse))))
    second = whole(rounded(multiply(b, fill_16(inverse))))
    store_narrow(lower, first)
    store_narrow(upper, second)
    return top / np.float32(127.0), total(first) + total(second)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def quantise(x: int, columns: int, paired: bool, codes: int, scales: int, offsets: int) -> None:  # noqa: FBT001 - compiled
    """A row of float32 as signed bytes, a scale for each block, and what Q40's offset of 8 takes away.

    The offset is -8 * scale * (sum of the bytes). `paired`: the order for Q40.
    """
    blocks = columns // 32
    grouped = blocks // 4 * 4 if paired else 0
    for block in range(blocks):
        lower, upper = codes + 32 * block, codes + 32 * block + 16
        if block < grouped:
            lower = codes + 128 * (block // 4) + 16 * (block % 4)
            upper = lower + 64
        scale, amount = _quantise_block(x + 128 * block, lower, upper)
        store(scales + 4 * block, scale)
        store(offsets + 4 * block, np.float32(-8.0) * scale * np.float32(amount))


@inlined
def inverse_size(x: int, width: int, eps: float) -> Any:
    """One by the root mean square of a row."""
    first, second = fill_16(np.float32(0.0)), fill_16(np.float32(0.0))
    wide = width // 32 * 32
    for i in range(0, wide, 32):
        a, b = load_f32x16(x + 4 * i), load_f32x16(x + 4 * i + 64)
        first, second = fma(a, a, first), fma(b, b, second)
    amount = total(add(first, second))
    for i in range(wide, width):
        value = load_f32(x + 4 * i)
        amount += value * value
    return np.float32(1.0) / np.sqrt(amount / np.float32(width) + np.float32(eps))


@kernel("void(int64, int64, int64, float64, int64)")
def norm(x: int, weight: int, width: int, eps: float, out: int) -> None:
    """A row by its root mean square, times the weight; `out` may be `x`."""
    size = inverse_size(x, width, eps)
    wide = width // 16 * 16
    factor = fill_16(size)
    for i in range(0, 4 * wide, 64):
        store(out + i, multiply(multiply(load_f32x16(x + i), factor), load_f32x16(weight + i)))
    for i in range(4 * wide, 4 * width, 4):
        store(out + i, load_f32(x + i) * size * load_f32(weight + i))


@kernel("void(int64, int64, int64, int64)")
def gate(gates: int, ups: int, width: int, out: int) -> None:
    """silu(gates) * ups; `out` may be `gates`."""
    one, zero = fill_16(np.float32(1.0)), fill_16(np.float32(0.0))
    wide = width // 16 * 16
    for i in range(0, 4 * wide, 64):
        value = load_f32x16(gates + i)
        share = divide(value, add(one, exponential(subtract(zero, value))))
        store(out + i, multiply(share, load_f32x16(ups + i)))
    for i in range(4 * wide, 4 * width, 4):
        single = load_f32(gates + i)
        store(out + i, single / (np.float32(1.0) + np.exp(-single)) * load_f32(ups + i))


@kernel("void(int64, int64, int64)")
def add_to(x: int, y: int, width: int) -> None:
    """X += y."""
    wide = width // 16 * 16
    for i in range(0, 4 * wide, 64):
        store(x + i, add(load_f32x16(x + i), load_f32x16(y + i)))
    for i in range(4 * wide, 4 * width, 4):
        store(x + i, load_f32(x + i) + load_f32(y + i))


@kernel("void(int64, int64, float32, int64)")
def add_scaled(x: int, y: int, factor: float, width: int) -> None:
    """X += factor * y."""
    wide = width // 16 * 16
    share = fill_16(np.float32(factor))
    for i in range(0, 4 * wide, 64):
        store(x + i, fma(load_f32x16(y + i), share, load_f32x16(x + i)))
    for i in range(4 * wide, 4 * width, 4):
        store(x + i, load_f32(x + i) + np.float32(factor) * load_f32(y + i))
