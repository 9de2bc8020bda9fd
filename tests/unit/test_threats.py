"""docs/threats.md names tests that exist, for each promise."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tests_that_the_threats_name_exist():
    """Each test in docs/threats.md is in the tree under that very name; no promise is without one."""
    page = (ROOT / "docs/threats.md").read_text()
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    strangers = page.split("\n## ")[1:]
    assert len(strangers) == 4
    for stranger in strangers:
        assert set(re.findall(r"`(test_\w+)`", stranger)) - there == set()
        _, *promises = re.split(r"\n\w+ \*\*can\*\*", stranger)[0].split("\n* ")
        assert promises, stranger[:40]
        assert [promise for promise in promises if not re.search(r"`test_\w+`", promise)] == []
