"""Notes compute their figures and nothing else."""

from __future__ import annotations

from decimal import Decimal

import pytest

from orchestrator.plan.notes import BadFormula, expectations, names_in, remarks, render
from orchestrator.words.model import Expected, Note, Notes


def test_formulas_are_computed():
    """Sums, products and formats are filled in; doubled braces are braces."""
    assert render("{a + b * 2:.1f} of {{x}}", {"a": Decimal(1), "b": Decimal("0.25")}) == "1.5 of {x}"
    assert render("{100 * a / b:.0f} %", {"a": Decimal(1), "b": Decimal(4)}) == "25 %"


@pytest.mark.parametrize(
    "text",
    [
        *("{a.real}", "{f(a)}", "{a ** 9}", "{'x' * 3}", "{a[0]}", "{a", "{}", "{a if a else a}", "{True}", "{1e999}"),
        *("{a:>999999999}", "{a:.99f}", "{a:{b}}", "{a:s}", "{a!r}", "{9**9**9}", "{a\0}"),
        *("{" + "(" * 5000 + "a" + ")" * 5000 + "}", "{" + "-" * 199 + "1}", "{" + "9" * 5000 + "}"),
    ],
    ids=lambda text: text[:20],
)
def test_nothing_else_is_a_formula(text: str):
    """Calls, attributes, powers, texts, long formulas and wide formats are refused before any figure is known."""
    with pytest.raises(BadFormula):
        names_in(text)


def test_a_note_without_its_figure_is_left_out():
    """A figure that is not known now takes its note away, and no other."""
    notes = Notes(
        figures={"a": Decimal(2)}, notes=(Note(about="1", plan="", fact="{a}"), Note(about="2", plan="", fact="{b}"))
    )
    assert [remark.about for remark in remarks(notes, {"b": None})] == ["1"]
    assert [remark.fact for remark in remarks(notes, {"b": Decimal(3)})] == ["2", "3"]


@pytest.mark.parametrize("formula", ["{1 / (a - a)}", "{" + "*".join(["a"] * 99) + "}"])
def test_a_figure_without_a_value_takes_its_sentence_away(formula: str):
    """What divides by nothing, or is too large to be shown, is left out of notes and of expected figures."""
    notes = Notes(
        figures={"a": Decimal("1e30")},
        notes=(Note(about="1", plan="", fact=formula), Note(about="2", plan="", fact="{a / a:.0f}")),
        expected=(Expected(what="1", plan="", fact=formula), Expected(what="2", plan="", fact="")),
    )
    assert [remark.about for remark in remarks(notes, {})] == ["2"]
    assert [expected.what for expected in expectations(notes, {}, {})] == ["2"]
