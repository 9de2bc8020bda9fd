"""What a plain scalar means where a number, a truth value or a duration is expected: YAML 1.2's core rules, stricter.

Refused as numbers, because people read them in two ways: `012`, `1_0`, `0x1f`, `.inf`, `"10"` in quotes.
"""

from __future__ import annotations

import re
from decimal import Decimal

from orchestrator.config.document import Scalar

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_UNIT_SECONDS = (86400, 3600, 60, 1)


class NotA(ValueError):
    """The text does not mean what is expected here; the message says what would."""


def is_null(scalar: Scalar) -> bool:
    """Whether the scalar says "nothing": `null`, `~` or an empty place, without quotes."""
    return scalar.plain and scalar.text in {"", "~", "null", "Null", "NULL"}


def read_int(scalar: Scalar) -> int:
    """Return a whole number, or raise NotA."""
    if not scalar.plain or not _INT.fullmatch(scalar.text):
        raise NotA(f"a whole number is expected, not {_shown(scalar)}")
    return int(scalar.text)


def read_decimal(scalar: Scalar) -> Decimal:
    """Return a number exactly as written, or raise NotA."""
    if not scalar.plain or not _NUMBER.fullmatch(scalar.text):
        raise NotA(f"a number is expected, not {_shown(scalar)}")
    return Decimal(scalar.text)


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
    match = _DURATION.fullmatch(text) if text else None
    if match and any(match.groups()):
        parts = zip(match.groups(), _UNIT_SECONDS, strict=True)
        return float(sum(Decimal(amount) * unit for amount, unit in parts if amount))
    if scalar.plain and _NUMBER.fullmatch(text) and not text.startswith("-"):
        return float(text)
    raise NotA(f"a duration such as 90s, 30m or 1h30m is expected, not {_shown(scalar)}")


def _shown(scalar: Scalar) -> str:
    if not scalar.plain:
        return f"the text {scalar.text!r}"
    return scalar.text or "nothing"
