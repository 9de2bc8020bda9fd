"""tools/mutating.py: what a mutant is, and which of them are in a sample; that what is explained is still there."""

from __future__ import annotations

import ast
from pathlib import Path

import mutating
import pytest
import yaml

PROJECT = Path(__file__).parents[2]
SOURCE = '''\
LIMIT = 60.0


def f(a, b=1):
    """Add."""
    print(f"{a + 1} of {b}")
    if not a and (b or a < LIMIT):
        return a * b
    return sum([a, b])
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "f.py"
    made.write_text(SOURCE)
    return made


def test_a_mutant_is_one_change_and_the_rest_of_the_file_stays(file: Path):
    """Each differs from the source in the one line that it names, which is another program then."""
    found = mutating.mutants_of(file)
    assert sorted((one.line, one.change) for one in found) == [
        (1, "60.0 -> 61.0"), (4, "1 -> 2"), (6, "1 -> 2"), (6, "Add -> Sub"), (6, "call removed"), (7, "And -> Or"),
        (7, "Lt -> LtE"), (7, "Or -> And"), (7, "not removed"), (8, "Mult -> Div"), (8, "returns None"),
        (9, "returns None"),
    ]  # fmt: skip
    for one in found:
        lines = one.source.splitlines()
        assert [n for n, (a, b) in enumerate(zip(SOURCE.splitlines(), lines, strict=True), 1) if a != b] == [one.line]
        assert ast.dump(ast.parse(one.source)) != ast.dump(ast.parse(SOURCE))


def test_what_is_imported_is_found_by_its_name(file: Path):
    """A line outside of functions has the names that it binds, and these the lines with them; a default its body."""
    bound = {one.line: one.bound for one in mutating.mutants_of(file)}
    assert (bound[1], bound[4]) == ({"LIMIT"}, {"f"})
    assert {one.line: one.body for one in mutating.mutants_of(file)}[4] == range(5, 10)
    assert bound[7] == set()
    assert set(mutating.lines_naming(file, bound[1])) == {1, 7}


def test_a_line_more_elsewhere_leaves_the_sample(file: Path):
    """Which mutants are taken depends on what they change and the seed, not on where in the file they are."""
    before = [(one.text, one.change) for one in mutating.sample(mutating.mutants_of(file), 5, 1)]
    other = [(one.text, one.change) for one in mutating.sample(mutating.mutants_of(file), 5, 2)]
    file.write_text("import os\n" + SOURCE)
    mutating.tree_of.cache_clear()
    assert [(one.text, one.change) for one in mutating.sample(mutating.mutants_of(file), 5, 1)] == before != other


def test_what_is_explained_is_a_mutant_of_today():
    """Each entry of tools/mutants-explained.yaml is a mutant of the sources as they are, with a reason."""
    entries = yaml.safe_load((PROJECT / "tools" / "mutants-explained.yaml").read_text()) or []
    present = {
        (inside, one.text, one.change)
        for inside in {entry["file"] for entry in entries}
        for one in mutating.mutants_of(PROJECT / inside)
    }
    assert [e for e in entries if (e["file"], e["text"], e["change"]) not in present or not e["why"]] == []
