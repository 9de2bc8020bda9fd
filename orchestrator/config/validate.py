"""A tree of nodes -> a value of the model, by the model's own validation. Every mistake has a place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.config.document import Broken, Mapping, Node, Sequence
from orchestrator.config.fields import read_field
from orchestrator.config.mistakes import told
from orchestrator.config.problems import KeyPath, Place, Problems
from orchestrator.words.value import Value

V = TypeVar("V", bound=Value)


@dataclass
class Source:
    """One document: where each of its parts stands, and which of them are known to be wrong."""

    root: Node
    problems: Problems
    spoilt: set[KeyPath] = field(default_factory=set)  # left out: wrong, or without something that it must have
    around_spoilt: set[KeyPath] = field(default_factory=set)  # each of them and all that it is in

    def place(self, *path: str | int) -> Place:
        """Return where the path stands, or the nearest thing around it."""
        return self.reached(path)[1].place

    def key_place(self, path: KeyPath) -> Place:
        """Return where the path's last key stands."""
        around = self.reached(path[:-1])[1]
        key = around.key(path[-1]) if isinstance(around, Mapping) else None
        return (key or around).place

    def sound(self, path: KeyPath) -> bool:
        """Whether nothing at or below the path is wrong already, so that a check of it means something."""
        return path not in self.around_spoilt

    def wrong(self, path: KeyPath, message: str, remedy: str = "") -> None:
        """Note a mistake at the path, unless something is known to be wrong there."""
        if self.sound(path):
            self.problems.add(self.place(*path), message, remedy)

    def spoil(self, path: KeyPath) -> None:
        """Leave the path out from now on; of a list all of it, since a hole would move the items behind it."""
        while path and isinstance(path[-1], int):
            path = path[:-1]
        self.spoilt.add(path)
        self.around_spoilt.update(path[:length] for length in range(len(path) + 1))

    def reached(self, path: KeyPath) -> tuple[KeyPath, Node]:
        """Return the longest part of the path that the document has, and what stands there."""
        node = self.root
        for length, part in enumerate(path):
            inner = node.get(part) if isinstance(node, Mapping | Sequence) else None
            if inner is None:
                return path[:length], node
            node = inner
        return path, node


def validate(model: type[V], node: Node, problems: Problems) -> tuple[V | None, Source]:
    """Return the value, or None when something that it must have is missing or wrong; and where its parts stand.

    A wrong optional part is noted and left out, so that the rest can still be checked.
    """
    source = Source(node, problems)
    known = -1
    while () not in source.spoilt and len(source.spoilt) > known:
        known = len(source.spoilt)
        try:
            return model.model_validate(_without(source.spoilt, node), context=read_field), source
        except ValidationError as error:
            for mistake in error.errors(include_url=False):
                _note(source, model, mistake)
    return None, source


def _note(source: Source, model: type[Value], mistake: ErrorDetails) -> None:
    """Tell the mistake, unless it follows from one that was told, and leave out the part that has it."""
    path = mistake["loc"]
    lacking = mistake["type"] == "missing"
    at, node = source.reached(path[:-1] if lacking else path)
    if path not in source.spoilt and not isinstance(node, Broken):
        place = source.key_place(path) if mistake["type"] == "extra_forbidden" else node.place
        source.problems.add(place, *told(model, mistake, node))
    source.spoil(at)


def _without(left_out: set[KeyPath], node: Node, path: KeyPath = ()) -> object:
    """The tree as pydantic takes it: dict, list, and the scalars as they are."""
    if isinstance(node, Mapping):
        inner = {key: (child, (*path, key)) for key, (_, child) in node.entries.items()}
        return {key: _without(left_out, child, at) for key, (child, at) in inner.items() if at not in left_out}
    if isinstance(node, Sequence):
        return [_without(left_out, child, (*path, index)) for index, child in enumerate(node.items)]
    return node
