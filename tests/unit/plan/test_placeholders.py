"""What stands in published texts for figures and facts."""

from __future__ import annotations

import pytest

from orchestrator.plan.placeholders import FACTS, LONGEST, Figure, fill, mistakes, parse


def test_a_placeholder_is_a_fact_or_a_figure():
    """A figure has a step, a name and perhaps a device; all else is the name of a fact."""
    assert parse("run") == "run"
    assert parse("day2-3/convert glm+x:tokens_per_second") == Figure("day2-3/convert glm+x", "tokens_per_second", None)
    assert parse("a/b:c@gpu") == Figure("a/b", "c", "gpu")
    assert parse("a:b") == "a:b"


def test_a_text_is_filled_once():
    """What a placeholder is filled with is no text to fill again; $$ is a dollar."""
    said = {"run": "${date} $$", "date": "today"}
    assert fill("$$1 ${run} ${date}$$", lambda one: said[str(one)]) == "$1 ${date} $$ today$"


@pytest.mark.parametrize("text", ["$", "${", "${a\nb}", "${}", "$run", "${run", "{run}$"])
def test_half_a_placeholder_is_a_mistake(text: str):
    """Whatever begins with $ and is none of the three forms is told, at its place."""
    assert [(line, column) for line, column, *_ in mistakes(text, FACTS, frozenset())] == [(1, text.index("$") + 1)]


def test_what_is_sound_is_not_told():
    """Facts, figures of known steps, dollars; without a known step any step is taken."""
    text = "${run} $$ ${a/b:c} ${a/b:c@cpu}"
    assert mistakes(text, FACTS, frozenset({"a/b"})) == []
    assert mistakes("${x/y:c}", FACTS, frozenset()) == []
    assert len(mistakes("${x/y:c}", FACTS, frozenset({"a/b"}))) == 1


def test_a_text_has_a_bound():
    """GitHub takes so many characters and no more."""
    assert mistakes("x" * LONGEST, FACTS, frozenset()) == []
    assert "may have 60,000" in mistakes("x" * (LONGEST + 1), FACTS, frozenset())[0][2]


def test_a_mistake_says_what_would_be_right():
    """Where a figure was measured is one of two words; a step is one of the plan's; a name that is near is offered."""
    steps = frozenset({"a/bench"})
    assert [(what, how) for _, _, what, how in mistakes("${a/bench:c@tpu}", FACTS, steps)] == [
        ("${a/bench:c@tpu}: a figure is measured @cpu or @gpu, not @tpu", "")
    ]
    assert [(what, how) for _, _, what, how in mistakes("${a/bnch:c}", FACTS, steps)] == [
        ("${a/bnch:c}: the plan has no step a/bnch", "did you mean a/bench?")
    ]
    assert [what for _, _, what, _ in mistakes("${runn}", FACTS, steps)] == ["there is no placeholder ${runn}"]
