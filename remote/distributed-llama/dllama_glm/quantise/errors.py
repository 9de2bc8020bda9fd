"""What storing costs: the largest and the mean square difference between source values and their blocks."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from dllama_glm.quantise.vectors import BF16, F16, F32, address, bits_to_float, fill, load, reduce_smax, splat

_I8, _I32, _I64, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_BYTES, _HALF_BYTES = ir.VectorType(_I8, 32), ir.VectorType(_I8, 16)
_WORDS, _FLOATS, _INTS = ir.VectorType(ir.IntType(16), 32), ir.VectorType(_FLOAT, 32), ir.VectorType(_I32, 32)
_options = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}
_HALF_SCALE = np.float32(2.0**112)

Q40, Q80, HALVES = 0, 1, 2


def _stored(context: Any, builder: Any, array_type: Any, array: Any, at: Any, form: int) -> Any:
    """The 32 numbers stored at byte `at`, as floats, before the scale."""
    if form == HALVES:
        words = builder.load(address(context, builder, array_type, array, at, _WORDS), align=1)
        wide = builder.zext(words, _INTS)
        moved = builder.shl(builder.and_(wide, splat(0x7FFF)), splat(13))
        scaled = builder.fmul(builder.bitcast(moved, _FLOATS), splat(2.0**112, _FLOAT))
        sign = builder.shl(builder.and_(wide, splat(0x8000)), splat(16))
        return builder.bitcast(builder.or_(builder.bitcast(scaled, _INTS), sign), _FLOATS)
    if form == Q80:
        numbers = builder.load(address(context, builder, array_type, array, at, _BYTES), align=1)
        return builder.sitofp(builder.sext(numbers, _INTS), _FLOATS)
    pairs = builder.load(address(context, builder, array_type, array, at, _HALF_BYTES), align=1)
    low = builder.and_(pairs, splat(0xF, _I8, 16))
    high = builder.lshr(pairs, splat(4, _I8, 16))
    nibbles = builder.shuffle_vector(low, high, ir.Constant(_INTS, list(range(32))))
    return builder.sitofp(builder.sub(builder.zext(nibbles, _INTS), splat(8)), _FLOATS)


@intrinsic(prefer_literal=True)
def _differences(typing_context, src, first, scale, blocks, at, kind, form):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, ARG001, PLR0913, PLR0917
    """Of 32 values: the largest difference (low half of the result) and the sum of squares (high half), as bits."""
    source_kind, stored_form = kind.literal_value, form.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = load(context, builder, signature.args[0], arguments[0], arguments[1], source_kind)
        stored = _stored(context, builder, signature.args[3], arguments[3], arguments[4], stored_form)
        stored = builder.fmul(stored, fill(builder, arguments[2]))
        difference = builder.fsub(builder.bitcast(source, _FLOATS), stored)
        magnitude = builder.and_(builder.bitcast(difference, _INTS), splat(0x7FFFFFFF))
        largest = builder.zext(reduce_smax(builder, magnitude), _I64)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_FLOAT, [_FLOAT, _FLOATS]), "llvm.vector.reduce.fadd.v32f32"
        )
        squares = builder.fmul(difference, difference)
        total = builder.call(function, [ir.Constant(_FLOAT, 0.0), squares], fastmath=("reassoc",))
        total_bits = builder.zext(builder.bitcast(total, _I32), _I64)
        return builder.or_(largest, builder.shl(total_bits, ir.Constant(_I64, 32)))

    return types.int64(src, types.int64, types.float32, blocks, types.int64, kind, form), codegen


@njit(inline="always", **_options)
def _scale(blocks, at):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    half = np.int32(blocks[at]) | (np.int32(blocks[at + 1]) << np.int32(8))
    size = bits_to_float(np.int32((half & 0x7FFF) << 13)) * _HALF_SCALE
    return -size if half & 0x8000 else size


@njit(**_options)
def errors_q40(src, kind, blocks):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """(largest difference, sum of squared differences) over all blocks."""
    largest, total = np.int32(0), 0.0
    for block in range(blocks.size // 18):
        first, at = 32 * block, 18 * block
        scale = _scale(blocks, at)
        if kind == BF16:
            both = _differences(src, first, scale, blocks, at + 2, BF16, Q40)
        elif kind == F16:
            both = _differences(src, first, scale, blocks, at + 2, F16, Q40)
        else:
            both = _differences(src, first, scale, blocks, at + 2, F32, Q40)
        largest = max(largest, np.int32(both))
        total += bits_to_float(np.int32(both >> 32))
    return bits_to_float(np.int32(largest)), total


@njit(**_options)
def errors_q80(src, kind, blocks):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """(largest difference, sum of squared differences) over all blocks."""
    largest, total = np.int32(0), 0.0
    for block in range(blocks.size // 34):
        first, at = 32 * block, 34 * block
        scale = _scale(blocks, at)
        if kind == BF16:
            both = _differences(src, first, scale, blocks, at + 2, BF16, Q80)
        elif kind == F16:
            both = _differences(src, first, scale, blocks, at + 2, F16, Q80)
        else:
            both = _differences(src, first, scale, blocks, at + 2, F32, Q80)
        largest = max(largest, np.int32(both))
        total += bits_to_float(np.int32(both >> 32))
    return bits_to_float(np.int32(largest)), total


@njit(**_options)
def errors_f16(src, kind, halves):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """(largest difference, sum of squared differences) over whole groups of 32 halves."""
    largest, total, one = np.int32(0), 0.0, np.float32(1.0)
    for group in range(halves.size // 64):
        first = 32 * group
        if kind == BF16:
            both = _differences(src, first, one, halves, 2 * first, BF16, HALVES)
        elif kind == F16:
            both = _differences(src, first, one, halves, 2 * first, F16, HALVES)
        else:
            both = _differences(src, first, one, halves, 2 * first, F32, HALVES)
        largest = max(largest, np.int32(both))
        total += bits_to_float(np.int32(both >> 32))
    return bits_to_float(np.int32(largest)), total
