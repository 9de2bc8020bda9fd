"""Every bound of the models is found by reflection, broken in a document of its own, and told with its place."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orchestrator.config import ConfigErrors
from orchestrator.config.document import parse
from orchestrator.config.prices import PriceList
from orchestrator.config.problems import Problems
from orchestrator.config.validate import validate
from orchestrator.words.errors import ExitCode
from orchestrator.words.model import YEAR_S, Duration, Notes, Phase, Settings
from orchestrator.words.store_url import StoreText
from orchestrator.words.value import Value

HERE = "@"  # stands in a document before the part that is to be refused
Refused = Iterator[tuple[str, str]]  # YAML on one line with HERE in it, and what must be said

NUMBER = [
    ("x", "number is expected, not x"),
    ('"10"', "not the text '10'"),
    ("012", "is expected, not 012"),
    ("1_0", "is expected, not 1_0"),
    (".inf", "is expected, not .inf"),
    ("9" * 5000, "number of at most 40 characters is expected, not 999"),
    ("9" * 35, "is too large a number"),
    ("[1]", "takes one value, not a list"),
    ("{a: 1}", "takes one value, not keys and values"),
]
FRACTION = [*NUMBER, ("1e400", "1e400 is too large a number"), ("1e-400", "1e-400 is too small a number")]
WRONG: dict[Any, list[tuple[str, str]]] = {
    str: [('"a\\0b"', "U+0000"), ('"\\ud800"', "U+D800"), ("[a]", "not a list"), ("{a: b}", "not keys and values")],
    bool: [
        ("no", "true or false is expected, not no"),
        ("1", "not 1"),
        ('"true"', "not the text"),
        ("[true]", "a list"),
    ],
    int: [*NUMBER, ("1.5", "a whole number is expected, not 1.5")],
    float: FRACTION,
    Decimal: FRACTION,
    Duration: [("1m30h", "a duration such as"), ("9" * 39 + "d", "too large"), ("9" * 5000 + "d", "at most 40")],
}


def undressed(annotation: Any) -> tuple[Any, list[Any]]:
    """The type without None and Annotated, and the marks that Annotated puts on it."""
    arms = [arm for arm in get_args(annotation) if arm is not NoneType]
    if get_origin(annotation) is Annotated:
        kind, inner = undressed(arms[0])
        return kind, inner + [part for mark in arms[1:] for part in getattr(mark, "metadata", [mark])]
    return undressed(arms[0]) if NoneType in get_args(annotation) else (annotation, [])


def of_field(info: FieldInfo) -> tuple[Any, list[Any]]:
    kind, marks = undressed(info.annotation)
    return kind, [*marks, *info.metadata]


def right(kind: Any, marks: list[Any]) -> str:
    """A value that nothing is wrong with."""
    if get_origin(kind) in {tuple, dict}:
        return "[]" if get_origin(kind) is tuple else "{}"
    if issubclass(kind, BaseModel):
        return document(kind)
    lowest = [str(mark.ge) for mark in marks if isinstance(mark, annotated_types.Ge)]
    return "x" if kind is str else (lowest or ["1"])[0]


def document(model: type[BaseModel], without: str = "", **given: str) -> str:
    """A mapping with what the model must have, and what is given."""
    needed = {
        info.alias or name: right(*of_field(info)) for name, info in model.model_fields.items() if info.is_required()
    }
    return "{" + ", ".join(f"{key}: {text}" for key, text in {**needed, **given}.items() if key != without) + "}"


def refused(kind: Any, marks: list[Any]) -> Refused:
    """Every way to be wrong that the type and its bounds leave."""
    yield from (found for mark in marks if (found := beyond(mark, kind)))
    origin = get_origin(kind)
    if origin is tuple:
        yield from [(f"{HERE}x", "takes a list"), (f"{HERE}{{a: b}}", "takes a list")]
        yield from ((f"[{text}]", says) for text, says in refused(*undressed(get_args(kind)[0])))
    elif origin is dict:
        yield from [(f"{HERE}x", "takes keys and values"), (f"{HERE}[a]", "takes keys and values")]
        yield from ((f"{{A: {text}}}", says) for text, says in refused(*undressed(get_args(kind)[1])))
    elif origin is Literal or issubclass(kind, StrEnum):
        yield from [(f"{HERE}nonsense", "'nonsense' is not one of: "), (f"{HERE}[a]", "not a list")]
    elif issubclass(kind, BaseModel):
        yield from refused_model(kind)
    else:
        wrong = WRONG[Duration if any(isinstance(mark, Duration) for mark in marks) else kind]
        yield from ((HERE + text, says) for text, says in wrong)


def refused_model(model: type[BaseModel]) -> Refused:
    yield from [(f"{HERE}x", "keys and values are expected ("), (f"{HERE}[a]", "keys and values are expected (")]
    yield document(model, **{f"{HERE}qqqq": "1"}), "unknown key qqqq"
    for plain, info in model.model_fields.items():
        name = info.alias or plain
        if info.is_required():
            yield HERE + document(model, without=name), f"{name} is missing"
        for text, says in refused(*of_field(info)):
            yield document(model, **{name: text}), says


def beyond(mark: Any, kind: Any) -> tuple[str, str] | None:
    """A value just outside the bound, and what is said then; None: the mark is no bound."""
    match mark:
        case annotated_types.Ge():
            least: Any = mark.ge
            return f"{HERE}{least - 1}", f"must be at least {least}, is {least - 1}"
        case annotated_types.Gt():
            return f"{HERE}{mark.gt}", f"must be more than {mark.gt}, is {mark.gt}"
        case annotated_types.Le():
            most: Any = mark.le
            said = "365d" if most == YEAR_S else f"{most:.0f}"
            return f"{HERE}{int(most) + 1}", f"must be at most {said}, is {int(most) + 1}"
        case annotated_types.MaxLen() if kind is str:
            return HERE + "x" * (mark.max_length + 1), f"must be at most {mark.max_length} characters long, is "
        case Duration() | StoreText():
            return None
    raise AssertionError(f"{mark!r} is a kind of bound that this test cannot break: teach it")


@pytest.mark.parametrize(("model", "ways"), [(Phase, 400), (Settings, 150), (Notes, 60), (PriceList, 40)])
def test_every_bound_is_told_with_its_place(model: type[Value], ways: int):
    """Whatever a type or a bound of the model refuses is one mistake at its file, line and column, with exit code 2."""
    found = list(refused(model, []))
    unlike = [(said, text) for text, says in found if (said := said_of(model, text)) != expected(text, says, said)]
    assert unlike == []
    assert len(found) >= ways


def said_of(model: type[Value], text: str) -> tuple[str, int]:
    problems = Problems()
    validate(model, parse(text.replace(HERE, ""), "f.yaml", problems), problems)
    try:
        problems.raise_all()
    except ConfigErrors as error:
        return str(error), error.exit_code
    return "nothing", 0


def expected(text: str, says: str, said: tuple[str, int]) -> tuple[str, int]:
    """What was said, if it is at the right place and says what it must, else what it should have said."""
    start = f"f.yaml:1:{text.index(HERE) + 1}: "
    whole = said[0].startswith(start) and says in said[0] and said[0].count("f.yaml") == 1 and len(said[0]) < 500
    return said[0] if whole else start + says, ExitCode.USAGE
