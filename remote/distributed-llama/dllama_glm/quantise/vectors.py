"""Operations on 32 values at once, as vector instructions that every processor's backend cuts to its own width.

Written as LLVM vectors because plain loops over a block are compiled to scalar code, four times slower. Each takes the
kind of source (BF16, F16, F32: a constant) and loads 32 values of it from `src`, an array of 16-bit words. All
arithmetic is single precision without contraction, so the results do not depend on the machine.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BF16, F16, F32 = 0, 1, 2

_I8, _I16, _I32, _I64, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_WORDS, _FLOATS, _INTS = ir.VectorType(_I16, 32), ir.VectorType(_FLOAT, 32), ir.VectorType(_I32, 32)
_SIGN = 0x80000000


def splat(value: float, kind: ir.Type = _I32, count: int = 32) -> ir.Constant:
    """A constant vector of `count` times the same value."""
    return ir.Constant(ir.VectorType(kind, count), [value] * count)


def fill(builder: Any, scalar: Any) -> Any:
    """A vector with the same run-time value in all 32 places."""
    single = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(single, ir.Constant(_FLOATS, ir.Undefined), splat(0))


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: ir.Type) -> Any:
    """A pointer to a vector that begins at element `index` of an array."""
    data = cgutils.create_struct_proxy(kind)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def load(context: Any, builder: Any, array_type: Any, array: Any, first: Any, kind: int) -> Any:
    """The bits, as float32, of the 32 values from value `first` on."""
    if kind == F32:
        words = builder.mul(first, ir.Constant(_I64, 2))
        return builder.load(address(context, builder, array_type, array, words, _INTS), align=2)
    words = builder.load(address(context, builder, array_type, array, first, _WORDS), align=2)
    wide = builder.zext(words, _INTS)
    if kind == BF16:
        return builder.shl(wide, splat(16))
    # A half: its bits moved in place are the value times 2**-112, subnormals included, which one product corrects.
    moved = builder.shl(builder.and_(wide, splat(0x7FFF)), splat(13))
    scaled = builder.fmul(builder.bitcast(moved, _FLOATS), splat(2.0**112, _FLOAT))
    sign = builder.shl(builder.and_(wide, splat(0x8000)), splat(16))
    return builder.or_(builder.bitcast(scaled, _INTS), sign)


def reduce_smax(builder: Any, vector: Any) -> Any:
    """The largest of 32 signed numbers, of 16 or 32 bits."""
    element = vector.type.element
    name = f"llvm.vector.reduce.smax.v32i{element.width}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(element, [vector.type]), name)
    return builder.call(function, [vector])


@intrinsic(prefer_literal=True)
def extremes(typing_context, src, first, kind):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG001
    """The largest value (low half of the result) and the largest of the negated values (high half), as bits."""
    number = kind.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if number == BF16:
            # The words order like the floats that they are the upper halves of, and are half the work.
            words = builder.load(
                address(context, builder, signature.args[0], arguments[0], arguments[1], _WORDS), align=2
            )
            highs = reduce_smax(builder, words), reduce_smax(builder, builder.xor(words, splat(0x8000, _I16)))
            high, low = (
                builder.zext(builder.shl(builder.zext(word, _I32), ir.Constant(_I32, 16)), _I64) for word in highs
            )
        else:
            bits = load(context, builder, signature.args[0], arguments[0], arguments[1], number)
            high = builder.zext(reduce_smax(builder, bits), _I64)
            low = builder.zext(reduce_smax(builder, builder.xor(bits, splat(_SIGN))), _I64)
        return builder.or_(high, builder.shl(low, ir.Constant(_I64, 32)))

    return types.int64(src, types.int64, kind), codegen


@intrinsic(prefer_literal=True)
def put_q40(typing_context, src, first, inverse, out, at, kind):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG001
    """Write 16 bytes at `out[at]`: value i low and value i + 16 high, each trunc(clip(x * inverse + 8.5, 0, 15))."""
    number = kind.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = load(context, builder, signature.args[0], arguments[0], arguments[1], number)
        value = builder.fmul(builder.bitcast(bits, _FLOATS), fill(builder, arguments[2]))
        value = builder.fadd(value, splat(8.5, _FLOAT))
        for compare, bound in ((">", 0.0), ("<", 15.0)):
            limit = splat(bound, _FLOAT)
            value = builder.select(builder.fcmp_ordered(compare, value, limit), value, limit)
        nibbles = builder.trunc(builder.fptosi(value, _INTS), ir.VectorType(_I8, 32))
        low, high = (
            builder.shuffle_vector(
                nibbles, nibbles, ir.Constant(ir.VectorType(_I32, 16), list(range(start, start + 16)))
            )
            for start in (0, 16)
        )
        packed = builder.or_(low, builder.shl(high, splat(4, _I8, 16)))
        target = address(context, builder, signature.args[3], arguments[3], arguments[4], packed.type)
        builder.store(packed, target, align=1)
        return context.get_dummy_value()

    return types.void(src, types.int64, types.float32, out, types.int64, kind), codegen


@intrinsic(prefer_literal=True)
def put_q80(typing_context, src, first, inverse, out, at, kind):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG001
    """Write 32 signed bytes at `out[at]`: x * inverse rounded to the nearest whole number, ties to even."""
    number = kind.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = load(context, builder, signature.args[0], arguments[0], arguments[1], number)
        value = builder.fmul(builder.bitcast(bits, _FLOATS), fill(builder, arguments[2]))
        # Adding and taking away 1.5 * 2**23 leaves no room for a fraction: the addition rounds it away.
        value = builder.fadd(value, splat(12582912.0, _FLOAT))
        value = builder.fsub(value, splat(12582912.0, _FLOAT))
        packed = builder.trunc(builder.fptosi(value, _INTS), ir.VectorType(_I8, 32))
        target = address(context, builder, signature.args[3], arguments[3], arguments[4], packed.type)
        builder.store(packed, target, align=1)
        return context.get_dummy_value()

    return types.void(src, types.int64, types.float32, out, types.int64, kind), codegen


@intrinsic(prefer_literal=True)
def put_f32(typing_context, src, first, out, at, kind):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG001
    """Write 32 float32 at byte `out[at]`."""
    number = kind.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = load(context, builder, signature.args[0], arguments[0], arguments[1], number)
        target = address(context, builder, signature.args[2], arguments[2], arguments[3], _INTS)
        builder.store(bits, target, align=1)
        return context.get_dummy_value()

    return types.void(src, types.int64, out, types.int64, kind), codegen


@intrinsic(prefer_literal=True)
def put_f16(typing_context, src, first, out, at, kind):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG001
    """Write 32 halves at byte `out[at]`, each the nearest, ties to even."""
    number = kind.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = load(context, builder, signature.args[0], arguments[0], arguments[1], number)
        halves = builder.trunc(_halves(builder, bits), _WORDS)
        target = address(context, builder, signature.args[2], arguments[2], arguments[3], _WORDS)
        builder.store(halves, target, align=1)
        return context.get_dummy_value()

    return types.void(src, types.int64, out, types.int64, kind), codegen


def _halves(builder: Any, bits: Any) -> Any:
    """Float32 bits to half bits, for 32 numbers or for one.

    Below 2**-14, adding one half moves the fraction into the half's place and rounds it.
    """
    many = isinstance(bits.type, ir.VectorType)
    floats = _FLOATS if many else _FLOAT

    def number(value: float, kind: ir.Type = _I32) -> ir.Constant:
        return splat(value, kind) if many else ir.Constant(kind, value)

    magnitude = builder.and_(bits, number(0x7FFFFFFF))
    shifted = builder.fadd(builder.bitcast(magnitude, floats), number(0.5, _FLOAT))
    small = builder.sub(builder.bitcast(shifted, bits.type), number(0x3F000000))
    odd = builder.and_(builder.lshr(magnitude, number(13)), number(1))
    rebased = builder.sub(magnitude, number(0x38000000 - 0xFFF))
    normal = builder.lshr(builder.add(rebased, odd), number(13))
    half = builder.select(builder.icmp_unsigned("<", magnitude, number(0x38800000)), small, normal)
    half = builder.select(builder.icmp_unsigned("<", magnitude, number(0x47800000)), half, number(0x7C00))
    return builder.or_(half, builder.lshr(builder.and_(bits, number(_SIGN)), number(16)))


@intrinsic
def bits_to_float(typing_context, bits):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG001
    """The float32 with these bits (an int32)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.int32), codegen


@intrinsic
def half_bits(typing_context, value):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG001
    """The bits of the half nearest to a float32, ties to even, as an int32."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return _halves(builder, builder.bitcast(arguments[0], _I32))

    return types.int32(types.float32), codegen
