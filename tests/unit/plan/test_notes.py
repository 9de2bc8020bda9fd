"""Notes compute their figures and nothing else."""

from __future__ import annotations

from decimal import Decimal

import pytest

from orchestrator.plan.notes import BadFormula, names_in, remarks, render
from orchestrator.words.model import Note, Notes


def test_formulas_are_computed():
    """Sums, products and formats are filled in; doubled braces are braces."""
    assert render("{a + b * 2:.1f} of {{x}}", {"a": Decimal(1), "b": Decimal("0.25")}) == "1.5 of {x}"
    assert render("{100 * a / b:.0f} %", {"a": Decimal(1), "b": Decimal(4)}) == "25 %"


@pytest.mark.parametrize(
    "text", ["{a.real}", "{f(a)}", "{a ** 9}", "{'x' * 3}", "{a[0]}", "{a", "{}", "{a if a else a}", "{True}"]
)
def test_nothing_else_is_a_formula(text: str):
    """Calls, attributes, powers and texts are refused before any figure is known."""
    with pytest.raises(BadFormula):
        names_in(text)


def test_a_note_without_its_figure_is_left_out():
    """A figure that is not known now takes its note away, and no other."""
    notes = Notes(
        figures={"a": Decimal(2)}, notes=(Note(about="1", plan="", fact="{a}"), Note(about="2", plan="", fact="{b}"))
    )
    assert [remark.about for remark in remarks(notes, {"b": None})] == ["1"]
    assert [remark.fact for remark in remarks(notes, {"b": Decimal(3)})] == ["2", "3"]
