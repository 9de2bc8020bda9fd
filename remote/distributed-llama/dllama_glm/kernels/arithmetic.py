"""Arithmetic on vectors."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from dllama_glm.kernels.build import inlined
from dllama_glm.kernels.level import LANES, LEVEL
from dllama_glm.kernels.vectors import (
    F32,
    I32,
    Vector,
    binary,
    call,
    code,
    constant,
    folded,
    shuffle,
    spread,
    unary,
)

_ROUNDING = 1.5 * 2**23  # added and taken away again, it leaves no room for a fraction


def _filler(count: int) -> Any:
    def typed(_context: Any, value: Any) -> Any:  # noqa: ARG001 - an intrinsic declares its arguments
        return Vector("f32", count)(types.float32), code(lambda b, a: spread(b, a[0], count))

    return intrinsic(typed)


fill_4 = _filler(4)
fill_16 = _filler(16)
fill_lanes = _filler(LANES)

add = binary(lambda b, a: b.fadd(a[0], a[1]))
subtract = binary(lambda b, a: b.fsub(a[0], a[1]))
multiply = binary(lambda b, a: b.fmul(a[0], a[1]))
divide = binary(lambda b, a: b.fdiv(a[0], a[1]))
greater = binary(lambda b, a: b.select(b.fcmp_ordered(">", a[0], a[1]), a[0], a[1]))
absolute = unary(lambda b, a: call(b, f"llvm.fabs.v{a[0].type.count}f32", a[0].type, [a[0]]))


@unary
def rounded(b: Any, a: list[Any]) -> Any:
    """Each value to the nearest whole number (of up to 22 bits), ties to even."""
    shift = constant(a[0].type, _ROUNDING)
    return b.fsub(b.fadd(a[0], shift), shift)


@intrinsic
def fma(_context: Any, x: Any, y: Any, z: Any) -> Any:
    """X * y + z, in one step where the processor can."""

    def build(b: Any, a: list[Any]) -> Any:
        if LEVEL == "plain":  # there it would be a call for each value
            return b.fadd(b.fmul(a[0], a[1]), a[2])
        return call(b, f"llvm.fma.v{x.count}f32", a[0].type, a)

    return x(x, y, z), code(build)


@intrinsic
def whole(_context: Any, x: Any) -> Any:
    """float32 that are whole numbers, as int32."""
    result = Vector("i32", x.count)
    return result(x), code(lambda b, a: b.fptosi(a[0], result.ir))


@intrinsic
def to_float(_context: Any, x: Any) -> Any:
    """int32 as float32."""
    result = Vector("f32", x.count)
    return result(x), code(lambda b, a: b.sitofp(a[0], result.ir))


@intrinsic
def total(_context: Any, x: Any) -> Any:
    """The sum of a vector's values."""

    def build(b: Any, a: list[Any]) -> Any:
        return folded(b, a[0], b.fadd if x.element == "f32" else b.add)

    return (types.float32 if x.element == "f32" else types.int32)(x), code(build)


@intrinsic
def largest(_context: Any, x: Any) -> Any:
    """The largest of a vector's values."""

    def build(b: Any, a: list[Any]) -> Any:
        return folded(b, a[0], lambda p, q: b.select(b.fcmp_ordered(">", p, q), p, q))

    return types.float32(x), code(build)


@intrinsic
def each(_context: Any, x: Any) -> Any:
    """Every value of four, four times in a row: 16 lanes."""
    places = [k // 4 for k in range(16)]
    return Vector("f32", 16)(x), code(lambda b, a: shuffle(b, a[0], places))


@intrinsic(prefer_literal=True)
def each_pair(_context: Any, x: Any, first: Any) -> Any:
    """Values `first` and `first` + 1 of four (a constant), eight times each: 16 lanes."""
    start = first.literal_value
    places = [start + k // 8 for k in range(16)]
    return Vector("f32", 16)(x, first), code(lambda b, a: shuffle(b, a[0], places))


@intrinsic
def _power_of_two(_context: Any, x: Any) -> Any:
    """2 to the power of whole numbers from -126 to 127."""

    def build(b: Any, a: list[Any]) -> Any:
        ints = ir.VectorType(I32, x.count)
        exponent = b.add(b.fptosi(a[0], ints), constant(ints, 127))
        return b.bitcast(b.shl(exponent, constant(ints, 23)), ir.VectorType(F32, x.count))

    return x(x), code(build)


@inlined
def exponential(x: Any) -> Any:
    """E to the power of 16 values, to a part in 10**7; below -87 it is taken as -87 (1e-38), above 88 as 88."""
    x = greater(x, fill_16(np.float32(-87.0)))
    x = subtract(fill_16(np.float32(0.0)), greater(subtract(fill_16(np.float32(0.0)), x), fill_16(np.float32(-88.0))))
    turns = rounded(multiply(x, fill_16(np.float32(1.44269504))))
    # ln 2 in two parts, so that what is left over is exact
    rest = fma(turns, fill_16(np.float32(-0.693359375)), x)
    rest = fma(turns, fill_16(np.float32(2.12194440e-4)), rest)
    y = fill_16(np.float32(1.9875691500e-4))
    y = fma(y, rest, fill_16(np.float32(1.3981999507e-3)))
    y = fma(y, rest, fill_16(np.float32(8.3334519073e-3)))
    y = fma(y, rest, fill_16(np.float32(4.1665795894e-2)))
    y = fma(y, rest, fill_16(np.float32(1.6666665459e-1)))
    y = fma(y, rest, fill_16(np.float32(5.0000001201e-1)))
    y = fma(multiply(rest, rest), y, add(rest, fill_16(np.float32(1.0))))
    return multiply(y, _power_of_two(turns))
