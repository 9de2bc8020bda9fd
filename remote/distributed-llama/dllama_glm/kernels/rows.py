"""One row of weights by one row of activations: a function for each way in which weights are stored.

For Q40 and Q80 there are two: by activations in bytes (`activations.quantise`), and by float32, the exact path.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from dllama_glm.kernels.arithmetic import (
    add,
    each,
    each_pair,
    fill_4,
    fill_16,
    fma,
    multiply,
    to_float,
    total,
)
from dllama_glm.kernels.build import inlined, kernel
from dllama_glm.kernels.dot import gather, gather_signed, high, low, nothing, settle, zeros
from dllama_glm.kernels.memory import (
    load_4_codes,
    load_4_scales,
    load_f32,
    load_f32x4,
    load_f32x16,
    load_half,
    load_halves,
    load_i8x32,
    load_i8x64,
    prefetch,
    store,
)
from dllama_glm.kernels.vectors import F32, I8, I32, Vector, code, constant, join

F32_ROWS, F16_ROWS, Q40_ROWS, Q80_ROWS = 0, 1, 2, 3  # the file format's numbers of its storage types
BYTES = 8  # added to Q40 or Q80: the activations are bytes
_AHEAD = 4608  # bytes that are asked for ahead of use: a weight is read once, so the memory's delay is all that counts
_Q40, _Q80 = np.int64(18), np.int64(34)  # bytes of a block


@intrinsic
def _codes_of_block(_context: Any, address: Any) -> Any:
    """The 32 nibbles of a Q40 block as bytes 0 to 15 in their natural order."""

    def build(b: Any, a: list[Any]) -> Any:
        kind = ir.VectorType(I8, 16)
        codes = b.load(b.inttoptr(a[0], kind.as_pointer()), align=1)
        return join(b, b.and_(codes, constant(kind, 15)), b.lshr(codes, constant(kind, 4)))

    return Vector("i8", 32)(address), code(build)


def _part(first: int) -> Any:
    def typed(_context: Any, codes: Any) -> Any:
        def build(b: Any, a: list[Any]) -> Any:
            mask = ir.Constant(ir.VectorType(I32, 16), list(range(first, first + 16)))
            return b.sitofp(b.shuffle_vector(a[0], a[0], mask), ir.VectorType(F32, 16))

        return Vector("f32", 16)(codes), code(build)

    return intrinsic(typed)


lower_floats = _part(0)
upper_floats = _part(16)


@kernel("float32(int64, int64, int64, int64, int64)")
def q40_by_bytes(row: int, columns: int, codes: int, scales: int, offsets: int) -> Any:
    """Four blocks at a time: two products of bytes, one conversion and one multiply-add for the four."""
    sums, taken = fill_16(np.float32(0.0)), fill_4(np.float32(0.0))
    blocks = columns // 32
    for i in range(blocks // 4):
        w, x = row + 4 * _Q40 * i, codes + 128 * i
        prefetch(w + _AHEAD)
        four = load_4_scales(w, _Q40)
        taken = fma(four, load_f32x4(offsets + 16 * i), taken)
        weights = load_4_codes(w)
        products = gather(nothing(weights), low(weights), load_i8x64(x))
        products = settle(gather(products, high(weights), load_i8x64(x + 64)))
        sums = fma(to_float(products), each(multiply(four, load_f32x4(scales + 16 * i))), sums)
    result = total(sums) + total(taken)
    for i in range(blocks // 4 * 4, blocks):
        w = row + _Q40 * i
        nibbles = _codes_of_block(w + 2)
        products = settle(gather(nothing(nibbles), nibbles, load_i8x32(codes + 32 * i)))
        scale = load_half(w)
        result += total(to_float(products)) * (scale * load_f32(scales + 4 * i)) + scale * load_f32(offsets + 4 * i)
    return result


@inlined
def _two_of_q80(w: int, x: int) -> Any:
    from_two = join_bytes(load_i8x32(w + 2), load_i8x32(w + _Q80 + 2))
    return to_float(gather_signed(zeros(from_two), from_two, load_i8x64(x)))


@intrinsic
def join_bytes(_context: Any, x: Any, y: Any) -> Any:
    """Two vectors of bytes as one."""
    return Vector("i8", 2 * x.count)(x, y), code(lambda b, a: join(b, a[0], a[1]))


@kernel("float32(int64, int64, int64, int64)")
def q80_by_bytes(row: int, columns: int, codes: int, scales: int) -> Any:
    """Four blocks at a time, two to a vector."""
    sums, more = fill_16(np.float32(0.0)), fill_16(np.float32(0.0))
    blocks = columns // 32
    for i in range(blocks // 4):
        w, x = row + 4 * _Q80 * i, codes + 128 * i
        prefetch(w + _AHEAD)
        prefetch(w + _AHEAD + 64)
        four = multiply(load_4_scales(w, _Q80), load_f32x4(scales + 16 * i))
        sums = fma(_two_of_q80(w, x), each_pair(four, 0), sums)
        more = fma(_two_of_q80(w + 2 * _Q80, x + 64), each_pair(four, 2), more)
    result = total(add(sums, more))
    for i in range(blocks // 4 * 4, blocks):
        w = row + _Q80 * i
        weights = load_i8x32(w + 2)
        products = to_float(gather_signed(zeros(weights), weights, load_i8x32(codes + 32 * i)))
        result += total(products) * (load_half(w) * load_f32(scales + 4 * i))
    return result


@inlined
def _f32_by_floats(row: int, columns: int, x: int) -> Any:
    a, b = fill_16(np.float32(0.0)), fill_16(np.float32(0.0))
    wide = columns // 32 * 32
    for i in range(0, 4 * wide, 128):
        a = fma(load_f32x16(row + i), load_f32x16(x + i), a)
        b = fma(load_f32x16(row + i + 64), load_f32x16(x + i + 64), b)
    result = total(add(a, b))
    for i in range(4 * wide, 4 * columns, 4):
        result += load_f32(row + i) * load_f32(x + i)
    return result


@inlined
def _f16_by_floats(row: int, columns: int, x: int) -> Any:
    a, b = fill_16(np.float32(0.0)), fill_16(np.float32(0.0))
    wide = columns // 32 * 32
    for i in range(0, wide, 32):
        prefetch(row + 2 * i + _AHEAD)
        a = fma(load_halves(row + 2 * i), load_f32x16(x + 4 * i), a)
        b = fma(load_halves(row + 2 * i + 32), load_f32x16(x + 4 * i + 64), b)
    result = total(add(a, b))
    for i in range(wide, columns):
        result += load_half(row + 2 * i) * load_f32(x + 4 * i)
    return result


@inlined
def _q40_by_floats(row: int, columns: int, x: int) -> Any:
    result, eight = fill_16(np.float32(0.0)), fill_16(np.float32(-8.0))
    for i in range(columns // 32):
        w, at = row + _Q40 * i, x + 128 * i
        nibbles = _codes_of_block(w + 2)
        sums = multiply(add(lower_floats(nibbles), eight), load_f32x16(at))
        sums = fma(add(upper_floats(nibbles), eight), load_f32x16(at + 64), sums)
        result = fma(sums, fill_16(load_half(w)), result)
    return total(result)


@inlined
def _q80_by_floats(row: int, columns: int, x: int) -> Any:
    result = fill_16(np.float32(0.0))
    for i in range(columns // 32):
        w, at = row + _Q80 * i, x + 128 * i
        codes = load_i8x32(w + 2)
        sums = multiply(lower_floats(codes), load_f32x16(at))
        sums = fma(upper_floats(codes), load_f32x16(at + 64), sums)
        result = fma(sums, fill_16(load_half(w)), result)
    return total(result)


@kernel("float32(int64, int64, int64, int64)")
def by_floats(kind: int, row: int, columns: int, x: int) -> Any:
    """A row of any storage type by float32 activations: the exact product, but for the rounding of its sums."""
    if kind == F32_ROWS:
        return _f32_by_floats(row, columns, x)
    if kind == F16_ROWS:
        return _f16_by_floats(row, columns, x)
    if kind == Q40_ROWS:
        return _q40_by_floats(row, columns, x)
    return _q80_by_floats(row, columns, x)


@kernel("void(int64, int64, int64, int64)")
def expand(kind: int, row: int, columns: int, out: int) -> None:
    """A row as float32, one value after the other."""
    from_eight = fill_16(np.float32(-8.0))
    if kind >= Q40_ROWS:
        for i in range(columns // 32):
            if kind == Q40_ROWS:
                scale = fill_16(load_half(row + _Q40 * i))
                nibbles = _codes_of_block(row + _Q40 * i + 2)
                first, second = add(lower_floats(nibbles), from_eight), add(upper_floats(nibbles), from_eight)
            else:
                scale = fill_16(load_half(row + _Q80 * i))
                codes = load_i8x32(row + _Q80 * i + 2)
                first, second = lower_floats(codes), upper_floats(codes)
            store(out + 128 * i, multiply(first, scale))
            store(out + 128 * i + 64, multiply(second, scale))
        return
    for i in range(columns):
        store(out + 4 * i, load_half(row + 2 * i) if kind == F16_ROWS else load_f32(row + 4 * i))
