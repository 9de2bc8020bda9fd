"""Many names told in few words: numbers between dots become a star."""

import re
from collections.abc import Iterable, Mapping

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_SHOWN = 8


def pattern(name: str) -> str:
    """The name with a star for each number between dots: what layers and experts have in common."""
    return _NUMBER.sub("*", name)


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """The names by their pattern, in the order of the first ones."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(pattern(name), []).append(name)
    return groups


def contents(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What tensors there are, by pattern, with how many and the first one's shape; at most eight patterns."""
    groups = grouped(shapes)
    shown = [
        f"{name} {list(shapes[found[0]])}" + (f" ({len(found):,} of them)" if len(found) > 1 else "")
        for name, found in list(groups.items())[:_SHOWN]
    ]
    if len(groups) > _SHOWN:
        shown.append(f"and {len(groups) - _SHOWN} more patterns")
    return ", ".join(shown)


def prefix_of(wanted: Iterable[str], found: Iterable[str]) -> str | None:
    """What stands in front of every wanted name among those found, where that is one text for all; else None."""
    there = set(found)
    names = list(wanted)
    starts = {name.removesuffix(names[0]) for name in there if names and name.endswith("." + names[0])}
    return next((start for start in sorted(starts) if all(start + name in there for name in names)), None)
