"""docs/evidence.md names every liar and what catches it. `--write-effects` writes its tables anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import load_plan
from orchestrator.words import files
from tests.liars.judged import BENCH, REHEARSED, Liar

PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"
MARK = "<!-- from here on written by tests/liars/test_liars_page.py -->\n"


def _table(liars: list[Liar]) -> str:
    rows = [
        f"| {liar.name} | {liar.lie} | {'; '.join(f'{p}: {n}' for p, names in liar.caught.items() for n in names)} |"
        for liar in liars
    ]
    return "\n".join(["| liar | what it does | what it does not get |", "|---|---|---|", *rows]) + "\n"


def test_the_page_names_every_liar(pytestconfig: pytest.Config):
    """The page's tables are those of the liars' files, and each names deliverables of the shipped plan."""
    said, mark, rest = PAGE.read_text().partition(MARK)
    assert mark
    expected = (
        f"\n## In a rehearsal ({len(REHEARSED)})\n\n{_table(REHEARSED)}\n"
        f"## On the bench, with GPUs ({len(BENCH)})\n\n{_table(BENCH)}"
    )
    if pytestconfig.getoption("--write-effects"):
        PAGE.write_text(said + MARK + expected)
        return
    assert rest == expected, "write it anew with --write-effects"
    plan = load_plan(files.shipped(), environ={})
    known = {phase.name: {d.name for d in phase.deliverables} for phase in plan.phases}
    assert all(set(names) <= known[phase] for liar in BENCH + REHEARSED for phase, names in liar.caught.items())
    assert len({liar.name for liar in BENCH + REHEARSED}) == len(BENCH + REHEARSED) >= 25
