"""A tree of nodes -> a value of the model, driven by the model's own fields. Every mistake has a place."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from orchestrator.config.document import Broken, Mapping, Node, Scalar, Sequence
from orchestrator.config.problems import Place, Problems, nearest
from orchestrator.config.scalars import NotA, is_null, read_bool, read_decimal, read_duration, read_int
from orchestrator.words.model import Duration, Value

KeyPath = tuple[str | int, ...]
V = TypeVar("V", bound=Value)


class _WrongError(Exception):
    """The node cannot become the value; the reason is already noted."""


@dataclass
class Binder:
    """Binds one document. `places` tells, afterwards, where each key path of it stands."""

    problems: Problems
    places: dict[KeyPath, Place] = field(default_factory=dict)
    spoilt: set[KeyPath] = field(default_factory=set)  # what is wrong already: nothing else is said about it

    def bind(self, model: type[V], node: Node, path: KeyPath = ()) -> V | None:
        """Return the value, or None when something that it must have is missing or wrong.

        A wrong optional part is noted and left at its default, so that the rest can still be checked.
        """
        try:
            return self._model(model, node, path)
        except _WrongError:
            return None

    def place(self, *path: str | int) -> Place:
        """Return where the path stands, or the nearest thing around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places[path]

    def sound(self, path: KeyPath) -> bool:
        """Whether nothing at or below the path is wrong already, so that a check of it means something."""
        return not any(spoilt[: len(path)] == path for spoilt in self.spoilt)

    def _model(self, model: type[V], node: Node, path: KeyPath) -> V:
        self.places[path] = node.place
        if isinstance(node, Broken):
            raise _WrongError
        if not isinstance(node, Mapping):
            self._wrong(node.place, f"keys and values are expected ({', '.join(model.model_fields)})")
        values: dict[str, Any] = {}
        broken = False
        for key, child in node.entries:
            info = model.model_fields.get(key.text)
            if info is None:
                self.problems.add(key.place, f"unknown key {key.text}", nearest(key.text, model.model_fields))
                self.spoilt.add((*path, key.text))
                continue
            try:
                values[key.text] = self._value(info.annotation, info.metadata, child, (*path, key.text))
            except _WrongError:
                self.spoilt.add((*path, key.text))
                broken = broken or info.is_required()
        broken = self._missing(model.model_fields, node) or broken
        if broken:
            raise _WrongError
        return model(**values)

    def _missing(self, fields: dict[str, FieldInfo], node: Mapping) -> bool:
        given = {key.text for key, _ in node.entries}
        missing = [name for name, info in fields.items() if info.is_required() and name not in given]
        for name in missing:
            self.problems.add(node.place, f"{name} is missing")
        return bool(missing)

    def _value(self, kind: Any, limits: Items[Any], node: Node, path: KeyPath) -> Any:
        self.places[path] = node.place
        if isinstance(node, Broken):
            raise _WrongError
        origin = get_origin(kind)
        if origin is Annotated:
            inner, *more = get_args(kind)
            return self._value(inner, [*limits, *_flat(more)], node, path)
        if origin in {Union, UnionType}:
            return self._optional(kind, limits, node, path)
        if origin is tuple:
            return self._list(get_args(kind)[0], node, path)
        if origin is dict:
            return self._dict(get_args(kind)[1], node, path)
        if isinstance(kind, type) and issubclass(kind, Value):
            return self._model(kind, node, path)
        if not isinstance(node, Scalar):
            what = "a list" if isinstance(node, Sequence) else "keys and values"
            self._wrong(node.place, f"{path[-1]} takes one value, not {what}")
        return self._scalar(kind, limits, node)

    def _optional(self, kind: Any, limits: Items[Any], node: Node, path: KeyPath) -> Any:
        inner = next(arm for arm in get_args(kind) if arm is not NoneType)
        if isinstance(node, Scalar) and is_null(node):
            return None
        return self._value(inner, limits, node, path)

    def _list(self, kind: Any, node: Node, path: KeyPath) -> tuple[Any, ...]:
        if not isinstance(node, Sequence):
            self._wrong(node.place, f"{path[-1]} takes a list", "write it as [a, b] or as lines that begin with -")
        values = []
        for index, item in enumerate(node.items):
            try:
                values.append(self._value(kind, (), item, (*path, index)))
            except _WrongError:
                # A hole would move the places of the items behind it: the whole list is given up.
                values.append(None)
        if any(value is None for value in values):
            raise _WrongError
        return tuple(values)

    def _dict(self, kind: Any, node: Node, path: KeyPath) -> dict[str, Any]:
        if not isinstance(node, Mapping):
            self._wrong(node.place, f"{path[-1]} takes keys and values", "write it as {NAME: value}")
        return {key.text: self._value(kind, (), child, (*path, key.text)) for key, child in node.entries}

    def _scalar(self, kind: Any, limits: Items[Any], node: Scalar) -> Any:
        if get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, StrEnum)):
            words = get_args(kind) or tuple(str(member) for member in kind)
            if node.text not in words:
                self._wrong(node.place, f"{node.text!r} is not one of: {', '.join(words)}", nearest(node.text, words))
            return node.text
        if kind is str:
            if is_null(node):
                self._wrong(node.place, "a text is expected, not nothing", 'write "" for an empty one')
            return node.text
        try:
            value = _READERS["duration" if any(isinstance(m, Duration) for m in limits) else kind](node)
        except NotA as error:
            self._wrong(node.place, str(error))
        self._within(value, limits, node.place)
        return value

    def _within(self, value: Any, limits: Items[Any], place: Place) -> None:
        for limit in limits:
            if isinstance(limit, annotated_types.Ge) and value < limit.ge:
                self._wrong(place, f"must be at least {limit.ge}, is {value:g}")
            if isinstance(limit, annotated_types.Gt) and value <= limit.gt:
                self._wrong(place, f"must be more than {limit.gt}, is {value:g}")
            if isinstance(limit, annotated_types.Le) and value > limit.le:
                self._wrong(place, f"must be at most {limit.le}, is {value:g}")

    def _wrong(self, place: Place, message: str, remedy: str = "") -> NoReturn:
        self.problems.add(place, message, remedy)
        raise _WrongError


_READERS: dict[Any, Callable[[Scalar], Any]] = {
    "duration": read_duration,
    int: read_int,
    float: lambda scalar: float(read_decimal(scalar)),
    Decimal: read_decimal,
    bool: read_bool,
}


def _flat(metadata: Items[Any]) -> list[Any]:
    """A Field(...) inside Annotated carries its limits one level deeper than pydantic's own metadata."""
    return [item for entry in metadata for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
