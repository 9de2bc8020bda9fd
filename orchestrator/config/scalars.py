"""What a plain scalar means where a number, a truth value or a duration is expected: YAML 1.2's core rules, stricter.

Refused as numbers, because people read them in two ways: `012`, `1_0`, `0x1f`, `.inf`, `"10"` in quotes.
Refused as well: numbers that nobody means, with more than 40 characters or beyond 10^30.
"""

from __future__ import annotations

import re
from decimal import Decimal

from orchestrator.config.document import Scalar
from orchestrator.config.problems import shortened

MOST_CHARACTERS = 40
SMALLEST, LARGEST = Decimal("1e-30"), Decimal("1e30")

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_DURATION = re.compile(r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+(?:\.[0-9]+)?)s)?")
_UNIT_SECONDS = (86400, 3600, 60, 1)


class NotA(ValueError):
    """The text does not mean what is expected here; the message says what would."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


def is_null(scalar: Scalar) -> bool:
    """Whether the scalar says "nothing": `null`, `~` or an empty place, without quotes."""
    return scalar.plain and scalar.text in {"", "~", "null", "Null", "NULL"}


def read_text(scalar: Scalar) -> str:
    """Return the text as written, or raise NotA: nothing is no text."""
    if is_null(scalar):
        raise NotA("a text is expected, not nothing", 'write "" for an empty one')
    return scalar.text


def read_int(scalar: Scalar) -> int:
    """Return a whole number, or raise NotA."""
    if not scalar.plain or not _INT.fullmatch(scalar.text):
        raise NotA(f"a whole number is expected, not {_shown(scalar)}")
    return int(_within_reason(scalar, Decimal(scalar.text)))


def read_decimal(scalar: Scalar) -> Decimal:
    """Return a number exactly as written, or raise NotA."""
    if not scalar.plain or not _NUMBER.fullmatch(scalar.text):
        raise NotA(f"a number is expected, not {_shown(scalar)}")
    return _within_reason(scalar, Decimal(scalar.text))


def read_float(scalar: Scalar) -> float:
    """Return a finite number, or raise NotA."""
    return float(read_decimal(scalar))


def read_bool(scalar: Scalar) -> bool:
    """Return a truth value, or raise NotA: `yes`, `no`, `on` and `off` are texts."""
    if scalar.plain and scalar.text in {"true", "True", "TRUE"}:
        return True
    if scalar.plain and scalar.text in {"false", "False", "FALSE"}:
        return False
    raise NotA(f"true or false is expected, not {_shown(scalar)}")


def read_duration(scalar: Scalar) -> float:
    """Return seconds from `30h`, `90s`, `1h30m`, `2d` or a plain number of seconds, or raise NotA."""
    text = scalar.text
    match = _DURATION.fullmatch(text)
    if match and any(match.groups()):
        parts = zip(match.groups(), _UNIT_SECONDS, strict=True)
        seconds = sum((Decimal(amount) * unit for amount, unit in parts if amount), Decimal(0))
        return float(_within_reason(scalar, seconds))
    if scalar.plain and _NUMBER.fullmatch(text) and not text.startswith("-"):
        return read_float(scalar)
    raise NotA(f"a duration such as 90s, 30m or 1h30m is expected, not {_shown(scalar)}")


def _within_reason(scalar: Scalar, value: Decimal) -> Decimal:
    if len(scalar.text) > MOST_CHARACTERS:
        raise NotA(f"a number of at most {MOST_CHARACTERS} characters is expected, not {_shown(scalar)}")
    if abs(value) > LARGEST:
        raise NotA(f"{_shown(scalar)} is too large a number")
    if value and abs(value) < SMALLEST:
        raise NotA(f"{_shown(scalar)} is too small a number", "write 0 if nothing is meant")
    return value


def _shown(scalar: Scalar) -> str:
    text = shortened(scalar.text)
    if not scalar.plain:
        return f"the text {text!r}"
    return text or "nothing"
