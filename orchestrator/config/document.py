"""YAML text -> a tree of nodes that know where they stand. Scalars get their types later, from the model's fields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from orchestrator.config.problems import Place, Problems

MOST_NODES = 50_000  # more than any real file; stops aliases that multiply

_STR = "tag:yaml.org,2002:str"
_PLAIN_TAGS = {_STR, "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text as written. `plain`: without quotes, so it may stand for a number, a truth value or nothing."""

    place: Place
    text: str
    plain: bool = True


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in the order of the file; each key once."""

    place: Place
    entries: tuple[tuple[Scalar, Node], ...]

    def get(self, key: str) -> Node | None:
        """Return the value under `key`, or None."""
        return next((value for name, value in self.entries if name.text == key), None)


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that cannot be read; why is noted already."""

    place: Place


Node = Scalar | Sequence | Mapping | Broken


class _Loader(yaml.SafeLoader):
    """Resolves nothing: `no`, `1.10` and `012` stay the texts that they are."""


_Loader.yaml_implicit_resolvers = {}


class _Reader:
    """Turns PyYAML's nodes into ours."""

    def __init__(self, source: str, problems: Problems) -> None:
        self.source = source
        self.problems = problems
        self.count = 0
        self.open: set[int] = set()  # nodes being read: an alias to one of them never ends

    def place(self, mark: yaml.Mark) -> Place:
        return Place(self.source, mark.line + 1, mark.column + 1)

    def node(self, raw: yaml.Node) -> Node:
        place = self.place(raw.start_mark)
        self.count += 1
        if self.count > MOST_NODES or id(raw) in self.open:
            self.problems.add(place, "aliases make this file endless", "write the values out")
            return Broken(place)
        if raw.tag not in _PLAIN_TAGS:
            self.problems.add(place, f"the tag {raw.tag} is not used here", "remove it: the key decides the type")
            return Broken(place)
        self.open.add(id(raw))
        try:
            return self.read(raw, place)
        finally:
            self.open.discard(id(raw))

    def read(self, raw: yaml.Node, place: Place) -> Node:
        if isinstance(raw, yaml.ScalarNode):
            return Scalar(place, raw.value, plain=raw.style is None)
        if isinstance(raw, yaml.SequenceNode):
            return Sequence(place, tuple(self.node(item) for item in raw.value))
        return self.mapping(raw, place)

    def mapping(self, raw: yaml.Node, place: Place) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        for raw_key, raw_value in raw.value:
            key = self.node(raw_key)
            if not isinstance(key, Scalar):
                self.problems.add(self.place(raw_key.start_mark), "a key must be a plain word")
                continue
            if key.text in entries:
                first = entries[key.text][0].place
                self.problems.add(key.place, f"{key.text} is given twice, first on line {first.line}", "keep one")
                continue
            entries[key.text] = (key, self.node(raw_value))
        return Mapping(place, tuple(entries.values()))


def parse(text: str, source: str, problems: Problems) -> Node | None:
    """Read one YAML document. None: it could not be read, and `problems` says why."""
    start = Place(source, 1, 1)
    reader = _Reader(source, problems)
    try:
        raw = _compose(text)
        if raw is None:
            problems.add(start, "the file is empty")
            return None
        return reader.node(raw)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add(reader.place(mark) if mark else start, _one_line(error.problem or error.context or "not YAML"))
    except yaml.YAMLError as error:
        problems.add(start, _one_line(str(error)))
    except RecursionError:
        problems.add(start, "this is nested too deeply")
    return None


def read_file(path: Path, problems: Problems) -> Node | None:
    """Read a YAML file. None: it cannot be read, and `problems` says why."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problems.add(Place(str(path), 1, 1), f"not UTF-8 text (byte {error.start})", "save the file as UTF-8")
        return None
    except OSError as error:
        problems.add(Place(str(path)), f"cannot be read: {error.strerror}")
        return None
    return parse(text, str(path), problems)


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _one_line(text: str) -> str:
    return " ".join(text.split())
