"""A recorded effect as plain JSON: its value, or the error that it raised."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from orchestrator.words import errors

Broken = Callable[[str, Exception], tuple[str, str]]  # an effect's name and a bug in it: message and remedy


def _internal(name: str, error: Exception) -> tuple[str, str]:
    return f"internal error in {name}: {type(error).__name__}: {error}", ""


def encode(name: str, body: Callable[[], object], kind: Any, broken: Broken = _internal) -> dict[str, object]:
    """Run the body; {"value": ...} or {"error": class, "message", "remedy"}. `broken` words what is no error of ours.

    A bug must not keep the teardown from running: no Exception gets out of here.
    """
    try:
        return {"value": _adapter(kind).dump_python(body(), mode="json")}
    except errors.GpuplanError as error:
        return {"error": _nearest(error), "message": error.message, "remedy": error.remedy}
    except Exception as error:  # noqa: BLE001  see above
        message, remedy = broken(name, error)
        return {"error": "GpuplanError", "message": message, "remedy": remedy}


def decode(recorded: dict[str, Any], kind: Any) -> Any:
    """The value, as its type; the error is raised."""
    if "error" in recorded:
        found: type[errors.GpuplanError] = getattr(errors, recorded["error"])
        raise found(recorded["message"], remedy=recorded["remedy"])
    return _adapter(kind).validate_python(recorded["value"])


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _nearest(error: errors.GpuplanError) -> str:
    """The name of the error's nearest class in words.errors: an adapter may have finer ones."""
    return str(next(c.__name__ for c in type(error).__mro__ if c is getattr(errors, c.__name__, None)))
