"""The compiled loops: BF16, F16 or F32 in; Q40, Q80, F16 or F32 out.

Each takes `src` (16-bit words; an F32 value is two of them), the kind of source, and `out` (bytes), converts as many
whole groups of 32 values as `out` has room for, and answers -1, or the number of the first group that cannot be
stored: a source value that is not finite, or a number that is too large for a half. They hold no lock of the
interpreter, so threads run them side by side.

The arithmetic is that of upstream's writer, bit by bit, and part of the format (`docs/format.md`).
"""

import numpy as np
from numba import njit

from dllama_glm.quantise.vectors import (
    BF16,
    F16,
    F32,
    bits_to_float,
    extremes,
    half_bits,
    put_f16,
    put_f32,
    put_q40,
    put_q80,
)

_options = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}
_INFINITY = np.int32(0x7F800000)
# A half whose exponent is all ones is widened to a finite number of 65536 or more.
_WIDENED_INFINITY = np.int32(0x47800000)
# 65520: the smallest number that rounds to an infinite half.
_HALF_OVERFLOW = np.int32(0x477FF000)
_HALF_INFINITY = 0x7C00
_LARGEST = np.float32(3.4028234e38)
_SIGN = np.int32(-0x80000000)


@njit(inline="always", **_options)
def _extremes(src, first, kind):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - compiled: the types are numba's
    """(largest, largest of the negated, whether all are finite) of 32 values, as bits that order like the floats."""
    if kind == BF16:
        both = extremes(src, first, BF16)
    elif kind == F16:
        both = extremes(src, first, F16)
    else:
        both = extremes(src, first, F32)
    high, low = np.int32(both), np.int32(both >> 32)
    return high, low, max(high, low) < (_WIDENED_INFINITY if kind == F16 else _INFINITY)


@njit(inline="always", **_options)
def _last_sign(src, first, kind):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Whether the last of 32 values is negative: numpy's maximum of nothing but zeros has its sign."""
    last = src[2 * first + 63] if kind == F32 else src[first + 31]
    return last >= 0x8000


@njit(inline="always", **_options)
def _inverse(delta):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    return np.float32(0.0) if delta == np.float32(0.0) else np.float32(1.0) / delta


@njit(**_options)
def to_q40(src, kind, out):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Blocks of 18 bytes. The extreme value becomes nibble 0; of +m and -m, +m is the extreme."""
    for block in range(out.size // 18):
        first, at = 32 * block, 18 * block
        high, low, finite = _extremes(src, first, kind)
        if not finite:
            return block
        extreme = -bits_to_float(low) if low > high else bits_to_float(high)
        if max(high, low) == 0:
            extreme = np.float32(-0.0) if _last_sign(src, first, kind) else np.float32(0.0)
        delta = extreme * np.float32(-0.125)
        half = half_bits(delta)
        if half & _HALF_INFINITY == _HALF_INFINITY:
            return block
        out[at] = half & 0xFF
        out[at + 1] = half >> 8
        if kind == BF16:
            put_q40(src, first, _inverse(delta), out, at + 2, BF16)
        elif kind == F16:
            put_q40(src, first, _inverse(delta), out, at + 2, F16)
        else:
            put_q40(src, first, _inverse(delta), out, at + 2, F32)
    return -1


@njit(**_options)
def to_q80(src, kind, out):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Blocks of 34 bytes. Ties go to the even number."""
    for block in range(out.size // 34):
        first, at = 32 * block, 34 * block
        high, low, finite = _extremes(src, first, kind)
        if not finite:
            return block
        extreme = bits_to_float(max(high, low))
        if max(high, low) == 0:
            extreme = np.float32(-0.0) if _last_sign(src, first, kind) else np.float32(0.0)
        delta = extreme / np.float32(127.0)
        half = half_bits(delta)
        if half & _HALF_INFINITY == _HALF_INFINITY:
            return block
        out[at] = half & 0xFF
        out[at + 1] = half >> 8
        inverse = _inverse(delta)
        if inverse > _LARGEST:
            # The reciprocal of a tiny scale overflowed; its products are no numbers and stored as zero.
            out[at + 2 : at + 34] = 0
        elif kind == BF16:
            put_q80(src, first, inverse, out, at + 2, BF16)
        elif kind == F16:
            put_q80(src, first, inverse, out, at + 2, F16)
        else:
            put_q80(src, first, inverse, out, at + 2, F32)
    return -1


@njit(**_options)
def to_f16(src, kind, out):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Halves, the nearest, ties to even."""
    for group in range(out.size // 64):
        first = 32 * group
        high, low, finite = _extremes(src, first, kind)
        if not finite or max(high, low) >= _HALF_OVERFLOW:
            return group
        if kind == BF16:
            put_f16(src, first, out, 2 * first, BF16)
        elif kind == F16:
            put_f16(src, first, out, 2 * first, F16)
        else:
            put_f16(src, first, out, 2 * first, F32)
    return -1


@njit(**_options)
def to_f32(src, kind, out):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Floats, exact."""
    for group in range(out.size // 128):
        first = 32 * group
        if not _extremes(src, first, kind)[2]:
            return group
        if kind == BF16:
            put_f32(src, first, out, 4 * first, BF16)
        elif kind == F16:
            put_f32(src, first, out, 4 * first, F16)
        else:
            put_f32(src, first, out, 4 * first, F32)
    return -1
