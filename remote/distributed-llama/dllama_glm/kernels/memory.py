"""Reading and writing vectors and numbers at addresses.

Kernels work on addresses (int64) rather than arrays: weights lie at odd places of a file, and numba would give an
array free after its last visible use, which a bare address is not. Whoever calls a kernel keeps the arrays alive.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from dllama_glm.kernels.level import HALF, LANES
from dllama_glm.kernels.vectors import F16, F32, I8, I16, I32, I64, Vector, call, code, constant, shuffle, spread

_KINDS: dict[Any, ir.Type] = {types.float32: F32, types.int32: I32, types.int64: I64, types.uint8: I8}


def _pointer(builder: Any, address: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


@intrinsic
def address_of(_context: Any, array: Any) -> Any:
    """The address of an array's first byte."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=arguments[0]).data
        return builder.ptrtoint(data, I64)

    return types.int64(array), generate


def _loader(result: Any) -> Any:
    kind = result.ir if isinstance(result, Vector) else _KINDS[result]

    def typed(_context: Any, address: Any) -> Any:  # noqa: ARG001 - an intrinsic declares its arguments
        return result(types.int64), code(lambda b, a: b.load(_pointer(b, a[0], kind), align=1))

    return intrinsic(typed)


load_f32 = _loader(types.float32)
load_i64 = _loader(types.int64)
load_f32x4 = _loader(Vector("f32", 4))
load_f32x8 = _loader(Vector("f32", 8))
load_f32x16 = _loader(Vector("f32", 16))
load_i8x32 = _loader(Vector("i8", 32))
load_i8x64 = _loader(Vector("i8", 64))
load_lanes = _loader(Vector("f32", LANES))
load_bytes = _loader(Vector("i8", 4 * LANES))


@intrinsic
def store(_context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001 - as above
    """Write a vector or a number at an address."""
    kind = value.ir if isinstance(value, Vector) else _KINDS[value]
    build = code(lambda b, a: (b.store(a[1], _pointer(b, a[0], kind), align=1), None)[1])
    return types.void(types.int64, value), build


@intrinsic
def store_narrow(_context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001 - as above
    """Write 32-bit whole numbers from -128 to 127 as bytes."""

    def build(b: Any, a: list[Any]) -> None:
        kind = ir.VectorType(I8, value.count)
        b.store(b.trunc(a[1], kind), _pointer(b, a[0], kind), align=1)

    return types.void(types.int64, value), code(build)


@intrinsic
def prefetch(_context: Any, address: Any) -> Any:  # noqa: ARG001 - as above
    """Ask for the cache line at an address, which need not exist."""

    def build(b: Any, a: list[Any]) -> None:
        pointer = b.inttoptr(a[0], I8.as_pointer())
        how = [ir.Constant(I32, number) for number in (0, 3, 1)]
        call(b, "llvm.prefetch.p0", ir.VoidType(), [pointer, *how])

    return types.void(types.int64), code(build)


def widened(b: Any, bits: Any) -> Any:
    """Half bits (<n x i16>) as float32."""
    count = bits.type.count
    floats, ints = ir.VectorType(F32, count), ir.VectorType(I32, count)
    if HALF:
        return b.fpext(b.bitcast(bits, ir.VectorType(F16, count)), floats)
    wide = b.zext(bits, ints)
    # The bits moved into a float's place are the value times 2**-112, subnormals included.
    moved = b.bitcast(b.shl(b.and_(wide, constant(ints, 0x7FFF)), constant(ints, 13)), floats)
    value = b.bitcast(b.fmul(moved, constant(floats, 2.0**112)), ints)
    return b.bitcast(b.or_(value, b.shl(b.and_(wide, constant(ints, 0x8000)), constant(ints, 16))), floats)


def narrowed(b: Any, value: Any) -> Any:
    """float32 as half bits: the nearest half, ties to even, above 65504 infinite."""
    count = value.type.count
    floats, ints, words = (ir.VectorType(kind, count) for kind in (F32, I32, I16))
    if HALF:
        return b.bitcast(b.fptrunc(value, ir.VectorType(F16, count)), words)
    bits = b.bitcast(value, ints)
    size = b.and_(bits, constant(ints, 0x7FFFFFFF))
    # Below 2**-14 adding one half moves the fraction into a half's place and rounds it.
    shifted = b.fadd(b.bitcast(size, floats), constant(floats, 0.5))
    small = b.sub(b.bitcast(shifted, ints), constant(ints, 0x3F000000))
    odd = b.and_(b.lshr(size, constant(ints, 13)), constant(ints, 1))
    normal = b.lshr(b.add(b.sub(size, constant(ints, 0x38000000 - 0xFFF)), odd), constant(ints, 13))
    half = b.select(b.icmp_unsigned("<", size, constant(ints, 0x38800000)), small, normal)
    half = b.select(b.icmp_unsigned("<", size, constant(ints, 0x47800000)), half, constant(ints, 0x7C00))
    sign = b.lshr(b.and_(bits, constant(ints, 0x80000000)), constant(ints, 16))
    return b.trunc(b.or_(half, sign), words)


@intrinsic
def load_halves(_context: Any, address: Any) -> Any:  # noqa: ARG001 - as above
    """16 halves as float32."""
    kind = ir.VectorType(I16, 16)
    return Vector("f32", 16)(types.int64), code(lambda b, a: widened(b, b.load(_pointer(b, a[0], kind), align=1)))


@intrinsic
def store_halves(_context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001 - as above
    """Write float32 as halves."""

    def build(b: Any, a: list[Any]) -> None:
        bits = narrowed(b, a[1])
        b.store(bits, _pointer(b, a[0], bits.type), align=1)

    return types.void(types.int64, value), code(build)


@intrinsic
def load_half(_context: Any, address: Any) -> Any:  # noqa: ARG001 - as above
    """One half as float32."""

    def build(b: Any, a: list[Any]) -> Any:
        word = b.load(_pointer(b, a[0], I16), align=1)
        return b.extract_element(widened(b, spread(b, word, 1)), ir.Constant(I32, 0))

    return types.float32(types.int64), code(build)


@intrinsic
def store_half(_context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001 - as above
    """Write one float32 as a half."""

    def build(b: Any, a: list[Any]) -> None:
        bits = narrowed(b, spread(b, a[1], 1))
        b.store(b.extract_element(bits, ir.Constant(I32, 0)), _pointer(b, a[0], I16), align=1)

    return types.void(types.int64, types.float32), code(build)


def gathered_words(b: Any, address: Any, count: int, step: Any) -> Any:
    """`count` 16-bit words, `step` bytes apart, as a vector."""
    words = ir.Constant(ir.VectorType(I16, count), ir.Undefined)
    for place in range(count):
        words = b.insert_element(words, b.load(_pointer(b, address, I16), align=1), ir.Constant(I32, place))
        address = b.add(address, step)
    return words


def _scales(count: int) -> Any:
    def typed(_context: Any, address: Any, step: Any) -> Any:  # noqa: ARG001 - as above
        def build(b: Any, a: list[Any]) -> Any:
            return widened(b, gathered_words(b, a[0], count, a[1]))

        return Vector("f32", count)(types.int64, types.int64), code(build)

    return intrinsic(typed)


load_4_scales = _scales(4)
load_lane_scales = _scales(LANES)


@intrinsic
def load_4_codes(_context: Any, address: Any) -> Any:  # noqa: ARG001 - as above
    """The 64 code bytes of four neighbouring Q40 blocks, whose first begins at `address`."""

    def build(b: Any, a: list[Any]) -> Any:
        kind = ir.VectorType(I8, 16)
        parts = [b.load(_pointer(b, b.add(a[0], ir.Constant(I64, 18 * k + 2)), kind), align=1) for k in range(4)]
        pairs = [shuffle(b, parts[k], list(range(32)), parts[k + 1]) for k in (0, 2)]
        return shuffle(b, pairs[0], list(range(64)), pairs[1])

    return Vector("i8", 64)(types.int64), code(build)
