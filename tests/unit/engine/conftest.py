"""Options of the engine's tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """--write-effects: see test_effects_change_with_the_version."""
    parser.addoption("--write-effects", action="store_true", help="write the agreed effects anew")
