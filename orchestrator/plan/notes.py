"""Notes on the user's own plan: sentences whose figures are computed, so that they say what they rest on."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from string import Formatter

from orchestrator.words.model import Expected, Notes, Rates

# What a preview knows by itself; everything else is in the notes' own figures.
COMPUTED = (
    *("planned_hours", "planned_usd", "estimated_hours", "estimated_usd", "own_way_usd", "volume_gb"),
    *(f"rate_{name}" for name in Rates.model_fields),
)
LARGEST = 1e30  # of the numbers in a formula
LONGEST_FORMULA = 200  # characters; keeps what is nested in it shallow

_FORMAT = re.compile(r",?(\.[0-9])?f?")
_ARITHMETIC = Context(prec=28, Emin=-99, Emax=99)  # beyond that a figure is nonsense, and too long to be shown

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


Known = Mapping[str, Decimal | None]  # figures by name; None: not known now
Measured = Mapping[tuple[str, str], tuple[float, str]]  # step id, metric -> value, and what it was measured on


def expectations(notes: Notes, known: Known, measured: Measured) -> tuple[Expectation, ...]:
    """Return the expected figures beside what is so and what was measured last."""
    return tuple(
        Expectation(item.what, item.plan, sentences["fact"], _measured(item, measured))
        for item in notes.expected
        if (sentences := _rendered(item.sentences(), {**known, **notes.figures}))
    )


def _measured(item: Expected, measured: Measured) -> str | None:
    found = measured.get((item.step or "", item.metric or ""))
    if found is None:
        return None
    value, machine = found
    return f"{value * float(item.scale):.4g} {item.unit}".strip() + f" on {machine}"


def remarks(notes: Notes, known: Known) -> tuple[Remark, ...]:
    """Return the notes with their figures."""
    return tuple(
        Remark(**sentences, source=note.source)
        for note in notes.notes
        if (sentences := _rendered(note.sentences(), {**known, **notes.figures}))
    )


def _rendered(sentences: Mapping[str, str], known: Known) -> dict[str, str]:
    """The sentences with their figures; none at all when a figure is not known now, or cannot be computed."""
    figures = {name: value for name, value in known.items() if value is not None}
    with suppress(ArithmeticError):  # an estimate of 0 hours, when nothing is left to do, divides nothing
        if all(names_in(text) <= figures.keys() for text in sentences.values()):
            return {key: render(text, figures) for key, text in sentences.items()}
    return {}


def render(text: str, figures: Mapping[str, Decimal]) -> str:
    """Fill each `{formula:format}`; a formula has + - * / and names of figures.

    BadFormula: one is not of that form. ArithmeticError: it has no value, or none that could be shown.
    """
    pieces = []
    for literal, tree, spec in _fields(text):
        pieces.append(literal)
        if tree is not None:
            with localcontext(_ARITHMETIC):
                pieces.append(format(_value(tree, figures), spec or "f"))
    return "".join(pieces)


def names_in(text: str) -> set[str]:
    """Return the figures that a sentence needs. BadFormula: a formula is not one."""
    trees = [tree for _, tree, _ in _fields(text) if tree is not None]
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _fields(text: str) -> list[tuple[str, ast.expr | None, str]]:
    """Each literal piece with the formula that follows it (None: none does) and the formula's format."""
    try:
        fields = list(Formatter().parse(text))
    except ValueError as error:
        raise BadFormula(f"{error} in {text!r}: write {{{{ and }}}} for braces that are meant as such") from error
    return [
        (literal, None if formula is None else _tree(formula), _format(spec or "", conversion or ""))
        for literal, formula, spec, conversion in fields
    ]


def _format(spec: str, conversion: str) -> str:
    if conversion or not _FORMAT.fullmatch(spec):
        raise BadFormula(f"{conversion or spec!r} is no format of a figure: write .2f, or ,.0f")
    return spec


def _tree(formula: str) -> ast.expr:
    if len(formula) > LONGEST_FORMULA:
        raise BadFormula(f"a formula of {len(formula):,} characters is longer than {LONGEST_FORMULA}")
    try:
        tree = ast.parse(formula, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise BadFormula(f"{formula!r} is no formula") from error
    with suppress(ArithmeticError):  # made-up figures may divide by nothing
        _value(tree, _Any())
    return tree


def _value(tree: ast.expr, figures: Mapping[str, Decimal]) -> Decimal:
    if isinstance(tree, ast.Constant):
        return _number(tree.value)
    if isinstance(tree, ast.Name):
        return figures[tree.id]
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        return _OPERATORS[type(tree.op)](_value(tree.left, figures), _value(tree.right, figures))
    raise BadFormula(f"{ast.unparse(tree)!r} is more than + - * / of figures")


def _number(value: object) -> Decimal:
    if isinstance(value, int | float) and not isinstance(value, bool) and value <= LARGEST:
        return Decimal(str(value))
    raise BadFormula(f"{value!r} is no number that a figure can be computed from")


class _Any(dict[str, Decimal]):
    """Stands for every figure, to check a formula's form."""

    def __missing__(self, name: str) -> Decimal:
        return Decimal(1)
