"""Reading JSON that somebody else wrote: an object with unique keys, or one clear sentence."""

import json
from pathlib import Path
from typing import Any

_MAX_BYTES = 256 << 20


def parse_object(text: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError (bad UTF-8, bad JSON, no object, a key twice, nested too deep)."""
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - one kind of error for one kind of fault
    return value


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises ValueError without the file's name."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"is larger than {_MAX_BYTES >> 20} MiB")
        return parse_object(path.read_bytes())
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"has the key {key!r} twice")
        found[key] = value
    return found
