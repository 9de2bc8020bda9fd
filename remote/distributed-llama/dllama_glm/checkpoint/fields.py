"""Typed access to a configuration that collects what is wrong instead of stopping at the first fault."""

import math
from collections.abc import Mapping
from typing import Any

MAX_INT32 = (1 << 31) - 1


class Fields:
    """The keys of one JSON object; every faulty or missing key is a sentence in `problems`.

    A getter that finds a fault notes it and returns a harmless value of the right type, so that reading goes on and
    all faults are told at once; whoever reads must look at `problems` before using what was read.
    """

    def __init__(self, where: str, raw: Mapping[str, Any]) -> None:
        self.where = where
        self.raw = raw
        self.problems: list[str] = []

    def problem(self, text: str) -> None:
        """Note one fault."""
        self.problems.append(f"{self.where}: {text}")

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.raw.get(key) is not None

    def integer(self, key: str, *aliases: str, minimum: int = 1) -> int:
        """A whole number that fits an int32; `aliases` are other names of the same thing, which must agree."""
        names = [name for name in (key, *aliases) if self.has(name)]
        if not names:
            self.problem(f"{key} is missing")
            return minimum
        value = self.raw[names[0]]
        if other := [name for name in names[1:] if self.raw[name] != value]:
            self.problem(f"{names[0]} is {value!r}, but {other[0]}, which means the same, is {self.raw[other[0]]!r}")
        if type(value) is not int or not minimum <= value <= MAX_INT32:
            self.problem(f"{names[0]} is {value!r}, not a whole number from {minimum}")
            return minimum
        return value

    def flag(self, key: str) -> bool:
        """True or false; missing is a fault."""
        if not self.has(key):
            self.problem(f"{key} is missing")
            return False
        if not isinstance(self.raw[key], bool):
            self.problem(f"{key} is {self.raw[key]!r}, not true or false")
            return False
        return bool(self.raw[key])

    def number(self, key: str, *, above: float = 0.0) -> float:
        """A finite number greater than `above`."""
        if not self.has(key):
            self.problem(f"{key} is missing")
            return 1.0
        return self.as_number(key, self.raw[key], above=above)

    def as_number(self, name: str, value: Any, *, above: float = 0.0) -> float:
        """`value`, found under `name`, as a finite number greater than `above` that a float32 can hold."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < 3e38:
            self.problem(f"{name} is {value!r}, not a number above {above:g}")
            return 1.0
        return float(value)

    def only(self, key: str, *allowed: Any, why: str) -> None:
        """Refuse any value but null and the allowed ones, because of `why`."""
        if self.has(key) and self.raw[key] not in allowed:
            self.problem(f"{key} is {self.raw[key]!r}: {why}")


def whole(value: float) -> bool:
    """Whether a number is whole and fits an int32."""
    return math.isfinite(value) and value == int(value) and abs(value) <= MAX_INT32
