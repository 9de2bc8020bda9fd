"""docs/threats.md and docs/safety.md name tests that exist, for each promise."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def there() -> set[str]:
    """The names of all tests in the tree."""
    files = [file.read_text() for file in (ROOT / "tests").rglob("test_*.py")]
    return {name for text in files for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}


def test_the_tests_that_the_threats_name_exist():
    """Each test in docs/threats.md is in the tree under that very name; no promise is without one."""
    page = (ROOT / "docs/threats.md").read_text()
    strangers = page.split("\n## ")[1:]
    assert len(strangers) == 4
    assert set(re.findall(r"`(test_\w+)`", page)) - there() == set()
    for stranger in strangers:
        _, *promises = re.split(r"\n\w+ \*\*can\*\*", stranger)[0].split("\n* ")
        assert promises, stranger[:40]
        assert [promise for promise in promises if not re.search(r"`test_\w+`", promise)] == []


def test_each_failures_bound_is_shown_by_a_test_that_exists():
    """Each row of the last table in docs/safety.md says until when what costs how much, and which test shows it."""
    page = (ROOT / "docs/safety.md").read_text().rpartition("\n## ")[2]
    _, _, *rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) >= 15
    for row in rows:
        _failure, until, worst, tests = (cell.strip() for cell in row.strip("|").split("|"))
        assert until, row
        assert re.search(r"\$|time-out", worst), row
        assert set(re.findall(r"`(\w+)`", tests)) - there() == set()
        assert re.search(r"`test_\w+`", tests), row
