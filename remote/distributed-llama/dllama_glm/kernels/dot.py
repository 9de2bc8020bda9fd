"""Products of bytes: the one thing that differs from processor to processor.

`gather` multiplies bytes and adds the products up in lanes, `settle` makes whole 32-bit lanes of such a sum. Lane i has
the products of bytes 4i to 4i + 3. Between `nothing` and `settle` at most eight products may be gathered, of unsigned
bytes up to 15 by signed ones from -127: with AVX2 the lanes are 16 bits wide until they are settled.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from dllama_glm.kernels.level import LANES, LEVEL
from dllama_glm.kernels.vectors import (
    I8,
    I16,
    I32,
    I64,
    Vector,
    call,
    code,
    constant,
    halves,
    join,
    shuffle,
    spread,
)

_REGISTER = {"vnni512": 16, "neon": 4}  # 32-bit lanes that one instruction works on; 8 elsewhere
# From LLVM 22 on, the instruction takes its operands as bytes.
_TAKES_BYTES = int(llvm.llvm_version_info[0]) >= 22


def in_pieces(b: Any, lanes: int, compute: Callable[..., Any], *vectors: Any) -> Any:
    """Compute on vectors that are wider than a register by computing on their halves."""
    count = vectors[0].type.count * vectors[0].type.element.width // 32
    if count <= lanes:
        return compute(b, *vectors)
    low, high = zip(*(halves(b, vector) for vector in vectors), strict=True)
    return join(b, in_pieces(b, lanes, compute, *low), in_pieces(b, lanes, compute, *high))


def vnni(b: Any, start: Any, unsigned: Any, signed: Any) -> Any:
    """VNNI's product of unsigned by signed bytes."""
    # LLVM's function becomes the instruction of AVX-512 or of AVX, as the processor has it.
    if not _TAKES_BYTES:
        unsigned, signed = b.bitcast(unsigned, start.type), b.bitcast(signed, start.type)
    return call(b, f"llvm.x86.avx512.vpdpbusd.{start.type.count * 32}", start.type, [start, unsigned, signed])


def _pairs(b: Any, unsigned: Any, signed: Any) -> Any:
    result = ir.VectorType(I16, unsigned.type.count // 2)
    return call(b, "llvm.x86.avx2.pmadd.ub.sw", result, [unsigned, signed])


def _fours(b: Any, pairs: Any) -> Any:
    result = ir.VectorType(I32, pairs.type.count // 2)
    return call(b, "llvm.x86.avx2.pmadd.wd", result, [pairs, constant(pairs.type, 1)])


def neon(b: Any, start: Any, first: Any, second: Any) -> Any:
    """ARM's product of signed bytes."""
    return call(b, "llvm.aarch64.neon.sdot.v4i32.v16i8", start.type, [start, first, second])


def plain(b: Any, start: Any, first: Any, second: Any, *, signed: bool = False) -> Any:
    """The same for any processor."""
    lanes = start.type.count
    wide = ir.VectorType(I32, 4 * lanes)
    products = b.mul((b.sext if signed else b.zext)(first, wide), b.sext(second, wide))
    for place in range(4):
        start = b.add(start, shuffle(b, products, list(range(place, 4 * lanes, 4))))
    return start


def _magnitudes(b: Any, weights: Any, values: Any) -> tuple[Any, Any]:
    """Signed weights without their signs, which the values take over."""
    zero = constant(weights.type, 0)
    negative = b.icmp_signed("<", weights, zero)
    return b.select(negative, b.sub(zero, weights), weights), b.select(negative, b.sub(zero, values), values)


def _gathered(b: Any, start: Any, unsigned: Any, signed: Any) -> Any:
    if LEVEL == "avx2":
        return b.add(start, in_pieces(b, 8, _pairs, unsigned, signed))
    compute = {"vnni512": vnni, "avxvnni": vnni, "neon": neon}.get(LEVEL, plain)
    return in_pieces(b, _REGISTER.get(LEVEL, 8), compute, start, unsigned, signed)


def _signed_gathered(b: Any, start: Any, weights: Any, values: Any) -> Any:
    if LEVEL == "neon":
        return in_pieces(b, 4, neon, start, weights, values)
    if LEVEL == "plain":
        return plain(b, start, weights, values, signed=True)
    unsigned, signed = _magnitudes(b, weights, values)
    if LEVEL == "avx2":
        return b.add(start, in_pieces(b, 8, lambda b, u, s: _fours(b, _pairs(b, u, s)), unsigned, signed))
    return in_pieces(b, _REGISTER.get(LEVEL, 8), vnni, start, unsigned, signed)


def _partial(lanes: int) -> Vector:
    return Vector("i16", 2 * lanes) if LEVEL == "avx2" else Vector("i32", lanes)


@intrinsic
def nothing(_context: Any, like: Any) -> Any:
    """The empty sum for vectors of bytes like this one."""
    result = _partial(like.count // 4)
    return result(like), code(lambda _b, _a: constant(result.ir, 0))


@intrinsic
def gather(_context: Any, start: Any, unsigned: Any, signed: Any) -> Any:
    """Add the products of unsigned bytes up to 15 by signed bytes."""
    return start(start, unsigned, signed), code(lambda b, a: _gathered(b, *a))


@intrinsic
def settle(_context: Any, gathered: Any) -> Any:
    """A gathered sum as int32 lanes."""
    if gathered.element == "i32":
        return gathered(gathered), code(lambda _b, a: a[0])
    return Vector("i32", gathered.count // 2)(gathered), code(lambda b, a: in_pieces(b, 8, _fours, a[0]))


@intrinsic
def zeros(_context: Any, like: Any) -> Any:
    """int32 lanes of zero, for vectors of bytes like this one."""
    result = Vector("i32", like.count // 4)
    return result(like), code(lambda _b, _a: constant(result.ir, 0))


@intrinsic
def gather_signed(_context: Any, start: Any, weights: Any, values: Any) -> Any:
    """Add the products of signed bytes (values from -127) to int32 lanes."""
    return start(start, weights, values), code(lambda b, a: _signed_gathered(b, *a))


@intrinsic
def low(_context: Any, codes: Any) -> Any:
    """The low nibble of each byte."""
    return codes(codes), code(lambda b, a: b.and_(a[0], constant(a[0].type, 15)))


@intrinsic
def high(_context: Any, codes: Any) -> Any:
    """The high nibble of each byte."""
    return codes(codes), code(lambda b, a: b.lshr(a[0], constant(a[0].type, 4)))


def _word(b: Any, address: Any, offset: int) -> Any:
    """Four bytes, in every lane of a register."""
    word = b.load(b.inttoptr(b.add(address, ir.Constant(I64, offset)), I32.as_pointer()), align=1)
    return b.bitcast(spread(b, word, LANES), ir.VectorType(I8, 4 * LANES))


def _panel(b: Any, address: Any, place: int) -> Any:
    kind = ir.VectorType(I8, 4 * LANES)
    return b.load(b.inttoptr(b.add(address, ir.Constant(I64, 4 * LANES * place)), kind.as_pointer()), align=1)


@intrinsic
def q40_products(_context: Any, panel: Any, lower: Any, upper: Any) -> Any:  # noqa: ARG001 - declared arguments
    """A panel's block by a token's, whose bytes stand in two halves: int32 lanes, one a row."""
    lanes = _partial(LANES)

    def build(b: Any, a: list[Any]) -> Any:
        sums = constant(lanes.ir, 0)
        for place in range(8):
            values = _word(b, a[1 + place // 4], 4 * (place % 4))
            sums = _gathered(b, sums, _panel(b, a[0], place), values)
        return sums if lanes.element == "i32" else in_pieces(b, 8, _fours, sums)

    return Vector("i32", LANES)(types.int64, types.int64, types.int64), code(build)


@intrinsic
def q80_products(_context: Any, panel: Any, values: Any) -> Any:  # noqa: ARG001 - as above
    """The same for signed weights and a token's block as it is."""

    def build(b: Any, a: list[Any]) -> Any:
        sums = constant(ir.VectorType(I32, LANES), 0)
        for place in range(8):
            sums = _signed_gathered(b, sums, _panel(b, a[0], place), _word(b, a[1], 4 * place))
        return sums

    return Vector("i32", LANES)(types.int64, types.int64), code(build)
