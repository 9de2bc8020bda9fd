"""Vectors as numba values: a compiled function holds them in variables, and LLVM allots the registers.

A vector's numba type has an LLVM vector as its data model. One that is wider than a register is cut by LLVM, so the
kernels choose widths for what they do and not for a processor.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

I8, I16, I32, I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
F16, F32 = ir.HalfType(), ir.FloatType()
_ELEMENTS = {"i8": I8, "i16": I16, "i32": I32, "f32": F32}


class Vector(types.Type):  # type: ignore[misc] # numba has no types
    """`count` numbers of one kind: i8, i16, i32 or f32."""

    def __init__(self, element: str, count: int) -> None:
        self.element = element
        self.count = count
        super().__init__(name=f"{element}x{count}")

    @property
    def ir(self) -> ir.VectorType:
        """The LLVM type."""
        return ir.VectorType(_ELEMENTS[self.element], self.count)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc] # as above
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.ir)


Build = Callable[[Any, list[Any]], Any]


def code(build: Build) -> Callable[..., Any]:
    """An intrinsic's code generator from a function of the LLVM builder and the arguments."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        made = build(builder, list(arguments))
        return context.get_dummy_value() if made is None else made

    return generate


def constant(vector: ir.VectorType, value: float) -> ir.Constant:
    """A vector of the same value in all places."""
    return ir.Constant(vector, [value] * vector.count)


def call(builder: Any, name: str, result: ir.Type, arguments: list[Any]) -> Any:
    """Call one of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def shuffle(builder: Any, first: Any, places: list[int], second: Any = None) -> Any:
    """The values at these places of one vector, or of two that are counted through."""
    mask = ir.Constant(ir.VectorType(I32, len(places)), places)
    return builder.shuffle_vector(first, first if second is None else second, mask)


def halves(builder: Any, vector: Any) -> tuple[Any, Any]:
    """Lower and upper half of a vector."""
    half = vector.type.count // 2
    return shuffle(builder, vector, list(range(half))), shuffle(builder, vector, list(range(half, 2 * half)))


def join(builder: Any, low: Any, high: Any) -> Any:
    """Two vectors of the same kind as one of twice the width."""
    return shuffle(builder, low, list(range(2 * low.type.count)), high)


def spread(builder: Any, scalar: Any, count: int) -> Any:
    """A vector with the same run-time value in all places."""
    kind = ir.VectorType(scalar.type, count)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    return shuffle(builder, single, [0] * count)


def folded(builder: Any, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """All values combined into one, halving the vector again and again."""
    while vector.type.count > 1:
        vector = combine(*halves(builder, vector))
    return builder.extract_element(vector, ir.Constant(I32, 0))


def unary(build: Build) -> Any:
    """An operation that takes a vector and gives one of the same type."""

    def typed(_context: Any, x: Any) -> Any:
        return x(x), code(build)

    return intrinsic(typed)


def binary(build: Build) -> Any:
    """An operation on two vectors of one type that gives a third."""

    def typed(_context: Any, x: Any, y: Any) -> Any:
        return x(x, y), code(build)

    return intrinsic(typed)
