"""What the YAML of a field means: decided by the field's type, never by how the text looks."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import EllipsisType, NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from orchestrator.config.document import Scalar
from orchestrator.config.scalars import (
    NotA,
    is_null,
    read_bool,
    read_decimal,
    read_duration,
    read_float,
    read_int,
    read_text,
)
from orchestrator.words.model import Duration
from orchestrator.words.value import Value

_READERS: dict[object, Callable[[Scalar], object]] = {
    Duration: read_duration,
    int: read_int,
    float: read_float,
    Decimal: read_decimal,
    bool: read_bool,
    str: read_text,
}


def read_field(field: FieldInfo, written: object) -> object:
    """Give each scalar below the field the value that it stands for; pydantic's validation does the rest.

    A scalar that means nothing of the kind becomes the NotA that says why: no type takes that, so pydantic refuses it
    with the right location, and it is found in the error's input.
    """
    if isinstance(written, Scalar) and is_null(written) and _may_be_missing(field):
        return None
    kind = leaf(field)
    if isinstance(kind, type) and issubclass(kind, Value):
        return written  # its own fields read what is in it
    return _read(_READERS.get(kind, _as_text), written)


def leaf(field: FieldInfo) -> object:
    """Return the type of the field's values: `int | None` -> int, `dict[str, Decimal]` -> Decimal.

    Duration stands for the type of seconds.
    """
    return _leaf(field.annotation, field.metadata)


def _leaf(kind: object, metadata: list[object]) -> object:
    if any(isinstance(mark, Duration) for mark in metadata):
        return Duration
    if get_origin(kind) is Literal:
        return kind
    if get_origin(kind) is Annotated:
        inner, *more = get_args(kind)
        return _leaf(inner, more)
    arguments = [arg for arg in get_args(kind) if arg is not NoneType and not isinstance(arg, EllipsisType)]
    return _leaf(arguments[-1], []) if arguments else kind


def _may_be_missing(field: FieldInfo) -> bool:
    return get_origin(field.annotation) in {Union, UnionType} and NoneType in get_args(field.annotation)


def _read(reader: Callable[[Scalar], object], written: object) -> object:
    if isinstance(written, dict):
        return {key: _read(reader, value) for key, value in written.items()}
    if isinstance(written, list):
        return [_read(reader, value) for value in written]
    if not isinstance(written, Scalar):
        return written
    try:
        return reader(written)
    except NotA as error:
        return error


def _as_text(scalar: Scalar) -> str:
    return scalar.text
