"""The types of what a machine may say, each with its bound, and the one parser from its JSON to them.

A machine is whatever answers at its address: a step may have replaced the agent. What it says is data of the type that
was asked for, or it is nothing at all.
"""

from __future__ import annotations

import json
import posixpath
import re
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, TypeGuard, TypeVar

from annotated_types import Ge, Interval, MaxLen
from pydantic import PlainValidator, Strict, TypeAdapter, ValidationError

T = TypeVar("T")
MOST_VALUES = 250_000  # strings, commas, colons and brackets of one text: parsed, each costs some 100 bytes
LONGEST_LOG = 1 << 20  # characters of output in one line: the agent says a tenth of it at once
LONGEST_PATH = 4096
LONGEST_NAME = 200  # of a figure
MOST_FIGURES = 200  # that one job publishes
_LARGEST = 1 << 62
_LATEST = 1e11  # Unix seconds, some 3,000 years
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_FEW = 10_000  # characters: one small text may be as long
# A string, or what stands between values. Possessive: nothing is remembered for going back, however long a string is.
_MARKS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[,:\[{]', re.DOTALL)


def json_in(text: bytes) -> object:
    """The value of a JSON text that a machine wrote. ValueError: it is none, or one that would fill the memory."""
    marks = sum(text.count(mark) for mark in (b",", b":", b"[", b"{"))
    if marks > MOST_VALUES:  # unless they are within strings
        marks = sum(1 for _ in islice(_MARKS.finditer(text), MOST_VALUES + 1))
    if marks > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    try:
        found: object = json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    return found


def shaped(kind: type[T], found: object) -> T:
    """The value as that type. ValueError: it is none of that type; what is wrong, without the value."""
    try:
        read: T = _adapter(kind).validate_python(found)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_context=False, include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, wrong['loc'])) or 'it'}: {wrong['msg']}") from None
    return read


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


_adapters: dict[type[Any], TypeAdapter[Any]] = {}  # made once: it takes a millisecond


def _is_number(found: object) -> TypeGuard[int | float]:
    """Whether it is a finite number of a size that makes sense. JSON has no other, Python's parser has."""
    return isinstance(found, int | float) and not isinstance(found, bool) and -_LARGEST <= found <= _LARGEST


def _moment(found: object) -> datetime:
    if _is_number(found) and 0 <= found < _LATEST:
        return datetime.fromtimestamp(found, UTC)
    raise ValueError("no moment in Unix seconds")


def _path(found: object) -> str:
    """A relative path that stays below its folder. Half a surrogate pair may be in it: the name of a file is bytes."""
    if isinstance(found, str) and 0 < len(found) <= LONGEST_PATH and "\0" not in found:
        stays = not found.startswith("/") and posixpath.normpath(found) == found
        if stays and found.split("/")[0] not in {".", ".."}:
            return found
    raise ValueError("no path below its folder")


def _output(found: object) -> str:
    """What a program printed, which is bytes: one that is no UTF-8 is half a surrogate pair, and no other half is."""
    if isinstance(found, str) and len(found) <= LONGEST_LOG and not _NO_BYTE.search(found):
        return found
    raise ValueError("no output of a program")


def _name(found: object) -> str:
    name = _path(found)
    if "/" in name:
        raise ValueError("a path in place of a name")
    return name


def _figure(found: object) -> float:
    if _is_number(found):
        return float(found)
    raise ValueError("no finite number")


def _figures(found: object) -> dict[str, float]:
    """What a job's own programs have published: names with numbers; what is none of that is left out."""
    if not isinstance(found, dict):
        raise ValueError("no figures")  # noqa: TRY004  pydantic takes a ValueError for an answer
    named = ((name, value) for name, value in found.items() if len(name) <= LONGEST_NAME and name.isprintable())
    read = {name: float(value) for name, value in named if _is_number(value)}
    return dict(list(read.items())[:MOST_FIGURES])


Count = Annotated[int, Strict(), Interval(ge=0, le=_LARGEST)]  # bytes, cores, MiB
Code = Annotated[int, Strict(), Interval(ge=-(1 << 31), le=1 << 31)]  # an exit code, a signal, an HTTP status
Truth = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), MaxLen(_FEW)]
LongText = Annotated[str, Strict(), MaxLen(LONGEST_LOG)]
Output = Annotated[str, PlainValidator(_output)]
Figure = Annotated[float, PlainValidator(_figure)]
Amount = Annotated[float, PlainValidator(_figure), Ge(0)]
Figures = Annotated[dict[str, float], PlainValidator(_figures)]
Moment = Annotated[datetime, PlainValidator(_moment)]
Path = Annotated[str, PlainValidator(_path)]
Name = Annotated[str, PlainValidator(_name)]
Sum = Annotated[str, Strict(), MaxLen(200)]  # a checksum, as text
