"""A recorded effect as plain JSON: its value, or the error that it raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from orchestrator.words import errors

Broken = Callable[[str, Exception], tuple[str, str]]  # an effect's name and a bug in it: message and remedy


def _internal(name: str, error: Exception) -> tuple[str, str]:
    return f"internal error in {name}: {type(error).__name__}: {error}", ""


def encode(name: str, body: Callable[[], object], kind: object, broken: Broken = _internal) -> dict[str, Any]:
    """Run the body; {"value": ...} or {"error": class, "message", "remedy"}. `broken` words what is no error of ours.

    A bug must not keep the teardown from running: no Exception gets out of here.
    """
    try:
        return {"value": plain(kind, body())}
    except errors.GpuplanError as error:
        return {"error": _nearest(error), "message": error.message, "remedy": error.remedy}
    except Exception as error:  # noqa: BLE001  see above
        message, remedy = broken(name, error)
        return {"error": "GpuplanError", "message": message, "remedy": remedy}


def decode(recorded: Mapping[str, Any], kind: object) -> Any:
    """The value, as its type; the error is raised."""
    if "error" in recorded:
        found: type[errors.GpuplanError] = getattr(errors, recorded["error"])
        raise found(recorded["message"], remedy=recorded["remedy"])
    return read(kind, recorded["value"])


def plain(kind: object, value: object) -> Any:
    """A value of that type as what json.dumps takes."""
    return _adapter(kind).dump_python(value, mode="json")


def read(kind: object, value: Any) -> Any:
    """The value of that type that `plain` made this of."""
    return _adapter(kind).validate_python(value)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _nearest(error: errors.GpuplanError) -> str:
    """The name of the error's nearest class in words.errors: an adapter may have finer ones."""
    return str(next(c.__name__ for c in type(error).__mro__ if c is getattr(errors, c.__name__, None)))
