"""YAML text -> a tree of nodes that know where they stand. Scalars get their types later, from the model's fields."""

from __future__ import annotations

import re
from collections.abc import Mapping as Map
from dataclasses import dataclass
from pathlib import Path

import yaml

from orchestrator.config.problems import Place, Problems

MOST_NODES = 50_000  # more than any real file; stops aliases that multiply

# Half sentences of PyYAML -> what is wrong, and what to do.
_WHOLE_SENTENCES = {
    "but found another document": ("a second document begins here", "keep one: what follows --- is a file of its own"),
    "second occurrence": ("this anchor is given twice in the file", "give each & another name"),
}

_UNFIT = re.compile("[\0\ud800-\udfff]")
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

    def get(self, index: str | int) -> Node | None:
        """Return the item of that number, or None."""
        return self.items[index] if isinstance(index, int) and index < len(self.items) else None


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys, by their texts, and values in the order of the file; each key once."""

    place: Place
    entries: dict[str, tuple[Scalar, Node]]

    @classmethod
    def of(cls, place: Place, values: Map[str, Node]) -> Mapping:
        """Return a mapping that stands in no file: its keys have its place."""
        return cls(place, {key: (Scalar(place, key), value) for key, value in values.items()})

    def get(self, key: str | int) -> Node | None:
        """Return the value under `key`, or None."""
        return self.entries[key][1] if isinstance(key, str) and key in self.entries else None

    def key(self, text: str | int) -> Scalar | None:
        """Return the key itself, or None."""
        return self.entries[text][0] if isinstance(text, str) and text in self.entries else None


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that cannot be read; why is noted already."""

    place: Place


Node = Scalar | Sequence | Mapping | Broken


class _Loader(yaml.SafeLoader):
    """Resolves nothing: `no`, `1.10` and `012` stay the texts that they are."""


_Loader.yaml_implicit_resolvers = {}


class _EndlessError(Exception):
    """The file stands for more than can be read: it is given up at this place, with this message."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


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
        if id(raw) in self.open:
            raise _EndlessError(place, "aliases make this file endless")
        if self.count > MOST_NODES:
            raise _EndlessError(place, f"with its aliases written out this file has more than {MOST_NODES:,} values")
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
            return self.scalar(raw, place)
        if isinstance(raw, yaml.SequenceNode):
            return Sequence(place, tuple(self.node(item) for item in raw.value))
        return self.mapping(raw, place)

    def scalar(self, raw: yaml.ScalarNode, place: Place) -> Node:
        """A text; an escape in it may stand for what neither a command nor UTF-8 can hold."""
        unfit = _UNFIT.search(raw.value)
        if unfit:
            self.problems.add(place, f"no text can have the character U+{ord(unfit[0]):04X} in it", "remove it")
            return Broken(place)
        return Scalar(place, raw.value, plain=raw.style is None)

    def mapping(self, raw: yaml.Node, place: Place) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        for raw_key, raw_value in raw.value:
            key = self.node(raw_key)
            if not isinstance(key, Scalar):
                if not isinstance(key, Broken):
                    self.problems.add(key.place, "a key must be a plain word")
                continue
            if key.text in entries:
                first = entries[key.text][0].place
                self.problems.add(key.place, f"{key.text} is given twice, first on line {first.line}", "keep one")
                continue
            entries[key.text] = (key, self.node(raw_value))
        return Mapping(place, entries)


def parse(text: str, source: str, problems: Problems) -> Node:
    """Read one YAML document. Broken: it could not be read, and `problems` says why."""
    start = Place(source, 1, 1)
    reader = _Reader(source, problems)
    try:
        raw = _compose(text)
        if raw is None:
            problems.add(start, "the file is empty")
            return Broken(start)
        return reader.node(raw)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = _one_line(error.problem or error.context or "not YAML")
        problems.add(reader.place(mark) if mark else start, *_WHOLE_SENTENCES.get(said, (said,)))
    except yaml.reader.ReaderError as error:
        before = text[: error.position].split("\n")
        place = Place(source, len(before), len(before[-1]) + 1)
        problems.add(place, f"no text can have the character U+{error.character:04X} in it", "remove it")
    except _EndlessError as error:
        problems.add(error.place, str(error), "write the values out")
    except RecursionError:
        problems.add(start, "this is nested too deeply")
    return Broken(start)


def read_file(path: Path, problems: Problems) -> Node:
    """Read a YAML file. Broken: it cannot be read, and `problems` says why."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problems.add(Place(str(path), 1, 1), f"not UTF-8 text (byte {error.start})", "save the file as UTF-8")
    except OSError as error:
        problems.add(Place(str(path)), f"cannot be read: {error.strerror}")
    else:
        return parse(text, str(path), problems)
    return Broken(Place(str(path)))


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _one_line(text: str) -> str:
    return " ".join(text.split())
