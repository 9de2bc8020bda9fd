"""What --fault may ask for: a disaster that exists, at a step that the run has."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.disasters import require_real
from orchestrator.plan import PhaseRun, resolve
from orchestrator.words.errors import UsageError
from tests.unit.cli.desk import Desk

PHASE = "one: {steps: [{name: make, run: make}]}"


@pytest.fixture
def runs(tmp_path: Path) -> tuple[PhaseRun, ...]:
    return resolve(Desk(tmp_path, PHASE).bench.spec.plan, ["all"])


@pytest.mark.parametrize("fault", ["preempt@make", "hang@one/make", "ssh-cut@one/make:2", "boot-never", "list-lag"])
def test_a_disaster_at_a_step_of_the_run_is_real(runs: tuple[PhaseRun, ...], fault: str):
    """A step is called by its name, or with its phase."""
    require_real([fault], runs)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("hang@two/make", "the run has no step two/make"), ("hang@mak", "no step mak"), ("boot-newer", "there is no")],
)
def test_any_other_is_refused(runs: tuple[PhaseRun, ...], fault: str, said: str):
    """Before anything begins, with what is wrong."""
    with pytest.raises(UsageError, match=said):
        require_real([fault], runs)
