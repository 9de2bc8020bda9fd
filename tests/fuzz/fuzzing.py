"""Changing good inputs at random: bytes, lines, and values of JSON. Everything follows from the seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

ODD_BYTES = (
    b"\0",
    b"\xff",
    b"\n",
    b"\r",
    b"{",
    b"[",
    b'"',
    b"-",
    b"9" * 30,
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"\xe2\x80\xae",
)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1.5, 1e300, float("nan"), float("inf"), "", "x", "0", "-1",
    "1e9", "\0", "\ud800", "../../x", "/etc/passwd", "http://elsewhere", "\x1b[2J", "x" * 5000, [], [[]], {},
    {"": None}, [None], ["x"] * 50,
)  # fmt: skip


def changed_bytes(chance: random.Random, good: bytes) -> bytes:
    """A few bytes replaced, put in, taken out, repeated, or the end cut off; most often near the beginning."""
    data = bytearray(good)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1) if chance.random() < 0.5 else chance.randrange(min(len(data), 300) + 1)
        kind = chance.randrange(5)
        new = chance.choice(ODD_BYTES) if chance.random() < 0.5 else chance.randbytes(chance.randint(1, 8))
        if kind == 0:
            data[at : at + len(new)] = new
        elif kind == 1:
            data[at:at] = new
        elif kind == 2:
            del data[at : at + chance.choice((1, 4, 8, 64))]
        elif kind == 3:
            data[at:at] = data[at : at + chance.choice((1, 16, 200))] * chance.randint(1, 3)
        elif chance.random() < 0.3:
            del data[at:]
    return bytes(data)


def changed_text(chance: random.Random, good: str) -> str:
    """Lines swapped, doubled, indented, or a value in one replaced; or some of its bytes."""
    if chance.random() < 0.4:
        return changed_bytes(chance, good.encode()).decode("utf-8", "replace")
    lines = good.splitlines()
    for _ in range(chance.randint(1, 3)):
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        key, colon, _ = lines[at].partition(":")
        odd = json.dumps(chance.choice(ODD_VALUES))
        lines[at] = chance.choice(
            (lines[other], f"  {lines[at]}", lines[at].lstrip(), f"{key}{colon or ':'} {odd}", f"{lines[at]}: x")
        )
    return "\n".join(lines)


def changed_json(chance: random.Random, good: Any) -> Any:
    """Some of its values replaced by odd ones, taken away, or put in each other's place."""
    value = copy.deepcopy(good)
    for _ in range(chance.randint(1, 3)):
        places = [*_places(value)]
        if not places or chance.random() < 0.02:
            return copy.deepcopy(chance.choice(ODD_VALUES))
        container, key = chance.choice(places)
        other, other_key = chance.choice(places)
        kind = chance.random()
        if kind < 0.6:
            container[key] = copy.deepcopy(chance.choice(ODD_VALUES))
        elif kind < 0.8:
            container[key] = copy.deepcopy(other[other_key])
        elif isinstance(container, dict):
            del container[key]
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [(value, key) for key, _ in inner] + [place for _, one in inner for place in _places(one)]


Attempt = Callable[[random.Random], None]
FUZZERS: dict[str, Callable[[Path], Attempt]] = {}


def fuzzer(make: Callable[[Path], Attempt]) -> Callable[[Path], Attempt]:
    """Note a fuzzer under its name: given a folder, it gives one attempt."""
    FUZZERS[make.__name__] = make
    return make


def passing(error: type[Exception] | tuple[type[Exception], ...], call: Callable[[], object]) -> None:
    """Call, and let errors of that kind pass."""
    try:
        call()
    except error:
        return
