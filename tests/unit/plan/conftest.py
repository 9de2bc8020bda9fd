"""Plans to decide about."""

from __future__ import annotations

import pytest

from orchestrator.config import load_plan
from orchestrator.words.model import Plan
from tests.unit.plan.plan_samples import phase, step


@pytest.fixture(scope="session")
def shipped() -> Plan:
    """The plan that gpuplan ships with."""
    return load_plan(environ={})


@pytest.fixture
def three() -> Plan:
    """Three phases: the second needs the first, the third needs both."""
    return Plan(
        name="three",
        phases=(
            phase("one", step("a"), step("b", "a"), step("c"), env={"X": "1"}, secrets=("TOKEN",)),
            phase("two", step("d", "one/b"), step("e", "d")),
            phase("three", step("f", "two/d"), step("g", "one/c", "f")),
        ),
    )
