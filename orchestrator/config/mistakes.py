"""What pydantic found wrong, in the words of somebody who writes YAML."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import get_args

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from orchestrator.config.document import Node, Scalar, Sequence
from orchestrator.config.fields import leaf
from orchestrator.config.problems import KeyPath, nearest, shortened
from orchestrator.config.scalars import NotA
from orchestrator.words.model import Duration
from orchestrator.words.value import Value

# pydantic's name of a broken bound -> what to say, and the bound's name in the error's context
_BOUNDS = {
    "greater_than_equal": ("must be at least", "ge"),
    "greater_than": ("must be more than", "gt"),
    "less_than_equal": ("must be at most", "le"),
    "less_than": ("must be less than", "lt"),
}
_LENGTHS = {
    "string_too_short": ("must be at least", "min_length", "characters"),
    "string_too_long": ("must be at most", "max_length", "characters"),
    "too_short": ("must be at least", "min_length", "items"),
    "too_long": ("must be at most", "max_length", "items"),
}
_DAY_S = 86400


def told(model: type[Value], mistake: ErrorDetails, node: Node) -> tuple[str, str]:
    """Return message and remedy for what is wrong at `node`, the deepest part of the mistake's location in the file."""
    path, kind = mistake["loc"], mistake["type"]
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    if kind == "missing":
        return f"{name} is missing", ""
    if kind == "extra_forbidden":
        return f"unknown key {shortened(name)}", nearest(name, _fields(_kind_at(model, path[:-1])))
    if kind == "model_type":
        return f"keys and values are expected ({', '.join(_fields(_kind_at(model, path)))})", ""
    if kind == "dict_type":
        return f"{name} takes keys and values", "write it as {NAME: value}"
    if kind == "tuple_type":
        return f"{name} takes a list", "write it as [a, b] or as lines that begin with -"
    if kind in _LENGTHS:
        return _of_length(mistake), ""
    if not isinstance(node, Scalar):
        return f"{name} takes one value, not {'a list' if isinstance(node, Sequence) else 'keys and values'}", ""
    return _of_scalar(mistake, node, _kind_at(model, path))


def _of_scalar(mistake: ErrorDetails, scalar: Scalar, kind: object) -> tuple[str, str]:
    why = mistake["input"]
    if isinstance(why, NotA):
        return str(why), why.remedy
    if mistake["type"] in {"literal_error", "enum"}:
        words = [
            str(word) for word in (kind if isinstance(kind, type) and issubclass(kind, StrEnum) else get_args(kind))
        ]
        return f"{shortened(scalar.text)!r} is not one of: {', '.join(words)}", nearest(scalar.text, words)
    if mistake["type"] in _BOUNDS:
        rule, bound = _BOUNDS[mistake["type"]]
        limit = mistake["ctx"][bound]
        shown = f"{int(limit // _DAY_S)}d" if kind is Duration and limit >= _DAY_S else f"{Decimal(limit):f}"
        return f"{rule} {shown}, is {shortened(scalar.text)}", ""
    return mistake["msg"], ""


def _of_length(mistake: ErrorDetails) -> str:
    rule, bound, what = _LENGTHS[mistake["type"]]
    return (
        f"{rule} {mistake['ctx'][bound]} {what} long, is {mistake['ctx'].get('actual_length', len(mistake['input']))}"
    )


def _kind_at(model: type[Value], path: KeyPath) -> object:
    """The type of the values at the path."""
    kind: object = model
    for part in path:
        if isinstance(part, str) and part in _fields(kind):
            kind = leaf(_fields(kind)[part])
    return kind


def _fields(kind: object) -> dict[str, FieldInfo]:
    """By the names that a file has for them."""
    found = kind.model_fields if isinstance(kind, type) and issubclass(kind, Value) else {}
    return {info.alias or name: info for name, info in found.items()}
