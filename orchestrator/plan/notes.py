"""Notes on the user's own plan: sentences whose figures are computed, so that they say what they rest on."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from string import Formatter

from orchestrator.words.model import Expected, Note, Notes, Rates

# What a preview knows by itself; everything else is in the notes' own figures.
COMPUTED = (
    *("planned_hours", "planned_usd", "estimated_hours", "estimated_usd", "cpu_usd", "volume_gb"),
    *(f"rate_{name}" for name in Rates.model_fields),
)

_OPERATORS: dict[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class BadFormula(ValueError):
    """A formula in a note cannot be computed; the message says which part."""


@dataclass(frozen=True)
class Remark:
    """One note, ready to be shown."""

    about: str
    plan: str
    fact: str
    source: str


@dataclass(frozen=True)
class Expectation:
    """One expected figure, ready to be shown. measured None: no run has measured it."""

    what: str
    plan: str
    fact: str
    measured: str | None


Measured = Mapping[tuple[str, str], tuple[float, str]]  # step id, metric -> value, and what it was measured on


def expectations(notes: Notes, known: Mapping[str, Decimal | None], measured: Measured) -> tuple[Expectation, ...]:
    """Return the expected figures beside what is so and what was measured last."""
    figures = {name: value for name, value in {**known, **notes.figures}.items() if value is not None}
    return tuple(
        Expectation(item.what, item.plan, render(item.fact, figures), _measured(item, measured))
        for item in notes.expected
        if names_in(item) <= figures.keys()
    )


def _measured(item: Expected, measured: Measured) -> str | None:
    found = measured.get((item.step or "", item.metric or ""))
    if found is None:
        return None
    value, machine = found
    return f"{value * float(item.scale):.4g} {item.unit}".strip() + f" on {machine}"


def remarks(notes: Notes, known: Mapping[str, Decimal | None]) -> tuple[Remark, ...]:
    """Return the notes with their figures. One that needs a figure which is not known now (None) is left out."""
    figures: dict[str, Decimal | None] = {**known, **notes.figures}
    found = []
    for note in notes.notes:
        values = {name: value for name in names_in(note) if (value := figures.get(name)) is not None}
        if values.keys() == names_in(note):
            with suppress(ArithmeticError):  # an estimate of 0 hours, when nothing is left to do, divides nothing
                about, plan, fact = (render(text, values) for text in (note.about, note.plan, note.fact))
                found.append(Remark(about, plan, fact, note.source))
    return tuple(found)


def render(text: str, figures: Mapping[str, Decimal]) -> str:
    """Fill each `{formula:format}`; a formula has + - * / and names of figures. BadFormula: it does not compute."""
    pieces = []
    for literal, formula, spec, _ in _fields(text):
        pieces.append(literal)
        if formula is not None:
            pieces.append(format(_value(_tree(formula), figures), spec or "f"))
    return "".join(pieces)


def names_in(item: Note | Expected) -> set[str]:
    """Return the figures that a note or an expectation needs. BadFormula: a formula is not one."""
    texts = (item.about, item.plan, item.fact) if isinstance(item, Note) else (item.fact,)
    trees = [_tree(formula) for text in texts for _, formula, _, _ in _fields(text) if formula is not None]
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _fields(text: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(Formatter().parse(text))
    except ValueError as error:
        raise BadFormula(f"{error} in {text!r}: write {{{{ and }}}} for braces that are meant as such") from error


def _tree(formula: str) -> ast.expr:
    try:
        tree = ast.parse(formula, mode="eval").body
        _value(tree, _Any())
    except SyntaxError as error:
        raise BadFormula(f"{formula!r} is no formula") from error
    except ArithmeticError:
        return tree  # made-up figures may divide by nothing
    return tree


def _value(tree: ast.expr, figures: Mapping[str, Decimal]) -> Decimal:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int | float) and not isinstance(tree.value, bool):
        return Decimal(str(tree.value))
    if isinstance(tree, ast.Name):
        return figures[tree.id]
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        return _OPERATORS[type(tree.op)](_value(tree.left, figures), _value(tree.right, figures))
    raise BadFormula(f"{ast.unparse(tree)!r} is more than + - * / of figures")


class _Any(dict[str, Decimal]):
    """Stands for every figure, to check a formula's form."""

    def __missing__(self, name: str) -> Decimal:
        return Decimal(1)
