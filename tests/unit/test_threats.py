"""docs/threats.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tests_that_the_threats_name_exist():
    """Each test in docs/threats.md is in the tree under that very name; every stranger has some."""
    page = (ROOT / "docs/threats.md").read_text()
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    strangers = page.split("\n## ")[1:]
    assert len(strangers) == 4
    for stranger in strangers:
        named = set(re.findall(r"`(test_\w+)`", stranger))
        assert named, stranger[:40]
        assert named - there == set()
