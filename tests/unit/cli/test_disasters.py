"""--fault: what names nothing is refused, what never happened is no rehearsal of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cli.disasters import require_real
from orchestrator.config import load_plan
from orchestrator.plan import resolve
from orchestrator.runner import Result
from orchestrator.words.errors import ExitCode, UsageError
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.spec import WorldSpec
from orchestrator.world import rehearsed


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("preempt@nope", "the run has no step nope"),
        ("preempt@convert-glmm:2", "the run has no step convert-glmm"),
        ("ssh-cut", "say which"),
        ("earthquake", "there is no fault earthquake"),
        ("s3-503@many", "a count"),
    ],
)
def test_a_fault_that_names_nothing_is_refused(fault: str, why: str):
    """A step that the run does not have, a place that is missing, a disaster that there is not."""
    runs = resolve(load_plan(environ={}), ["day2-3"])
    with pytest.raises(UsageError, match=why):
        require_real([fault], runs)
    require_real(["preempt@convert-glm:2", "preempt@clone", "s3-503@2", "cuda-late"], runs)


def test_a_fault_that_never_happened_is_exit_3():
    """What was to be shown was not: the run's own success does not hide it, a worse end does not change."""
    assert Result(Outcome.SUCCEEDED, (), ("preempt@x",)).exit_code == ExitCode.FAILED
    assert Result(Outcome.SUCCEEDED, ()).exit_code == ExitCode.DONE
    assert Result(Outcome.INTERRUPTED, (), ("preempt@x",)).exit_code == ExitCode.INTERRUPTED
    assert Result(Outcome.SUCCEEDED, ("machine m",), ("preempt@x",)).exit_code == ExitCode.STILL_RUNNING


def test_what_has_happened_is_asked_of_the_cloud():
    """By name and place, however often: the count says only how often it was to happen."""
    rows = [
        {"name": "preempt", "arg": "clone", "left": 1, "fired": 1},
        {"name": "s3-503", "arg": None, "left": 3, "fired": 0},
        {"name": "hub-429", "arg": None, "left": 0, "fired": 2},
    ]
    living: Any = SimpleNamespace(faults=lambda: rows)
    spec = WorldSpec(provider="", faults=("preempt@clone:2", "s3-503@3", "hub-429@2", "preempt@overlay"))
    assert rehearsed._unfired(living, spec) == ("s3-503@3", "preempt@overlay")


def test_a_run_arms_its_faults_once_also_in_a_cloud_that_is_alive(tmp_path: Path):
    """A second look at the same cloud (resume, down) does not arm them again."""
    armed: list[str] = []
    living: Any = SimpleNamespace(arm=armed.append)
    spec = WorldSpec(provider="", faults=("preempt@clone",))
    for _ in range(2):
        rehearsed._arm_once(tmp_path, living, spec)
    rehearsed._arm_once(tmp_path / "no-such-run", living, spec)
    assert armed == ["preempt@clone"]
