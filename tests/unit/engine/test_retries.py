"""What is tried again, how often, and as which command; and what is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.engine.board import Boards
from orchestrator.engine.effects import Attempt
from orchestrator.engine.stalls import WITHOUT_XET
from orchestrator.engine.steps import FREE_RESTARTS, KILLED, OUT_OF_MEMORY, Steps
from orchestrator.words.errors import StepFailed
from orchestrator.words.model import Step
from tests.unit.engine.stepbench import Bench, Straight, There

GOOD, BAD = Attempt(exit=0, seconds=1), Attempt(exit=1, seconds=1)
OOM = Attempt(exit=1, seconds=1, oom=True)
LATE = Attempt(exit=KILLED, seconds=1, timed_out=True)
STOPPED, LOST = Attempt(exit=1, seconds=1, stopped=True), Attempt(exit=1, seconds=1, lost=True)
HANGING = Attempt(exit=1, seconds=1, stopped=True, stalled=True)


def tried(
    tmp_path: Path, *ends: Attempt, retries: int = 0, on_oom: str | None = "small"
) -> tuple[list[str], bool, Any]:
    """The commands that are run where they end so, whether the step is done then, and what each was given beside it."""
    bench, commands, given, left = Bench(tmp_path), list[str](), list[Any](), list(ends)

    def try_once(command: str, number: int, more: Any) -> Attempt:
        commands.append(command)
        given.append(more)
        assert number == len(commands)
        return left.pop(0)

    work = SimpleNamespace(
        run=SimpleNamespace(id="only/s", step=Step(name="s", run="large", retries=retries, on_oom=on_oom)),
        try_once=try_once, reaching=lambda body: body(), before_retry=lambda how: None,
        how=lambda end: "how", why=lambda end: "why",
    )  # fmt: skip
    steps = Steps(bench.context, There(bench.context), Boards(bench.context))
    try:
        steps._execute(Straight(), cast("Any", work), [])
    except StepFailed:
        return commands, False, given
    assert left == []
    return commands, True, given


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_failure_is_tried_again_as_often_as_the_step_says(tmp_path: Path, retries: int):
    """And not once more."""
    assert tried(tmp_path / "bad", *[BAD] * 9, retries=retries)[:2] == (["large"] * (1 + retries), False)
    assert tried(tmp_path / "good", *[BAD] * retries, GOOD, retries=retries)[:2] == (["large"] * (1 + retries), True)


@pytest.mark.parametrize("end", [OOM, Attempt(exit=KILLED, seconds=1), Attempt(exit=OUT_OF_MEMORY, seconds=1)])
def test_what_had_too_little_memory_runs_in_its_smaller_form(tmp_path: Path, end: Attempt):
    """Once, whatever `retries` says; where there is none it is a failure as any other."""
    assert tried(tmp_path / "small", end, GOOD)[:2] == (["large", "small"], True)
    assert tried(tmp_path / "again", end, end, GOOD)[:2] == (["large", "small"], False)
    assert tried(tmp_path / "retry", end, BAD, GOOD, retries=1)[:2] == (["large", "small", "small"], True)
    assert tried(tmp_path / "none", end, GOOD, on_oom=None)[:2] == (["large"], False)


@pytest.mark.parametrize("end", [BAD, LATE, Attempt(exit=1, seconds=1, oom=True, timed_out=True)])
def test_another_failure_is_no_want_of_memory(tmp_path: Path, end: Attempt):
    """What was killed at its time-out was killed by us."""
    assert tried(tmp_path, end, GOOD)[:2] == (["large"], False)


@pytest.mark.parametrize("end", [STOPPED, LOST, HANGING])
def test_what_was_not_its_own_fault_is_free_a_few_times(tmp_path: Path, end: Attempt):
    """Somebody stopped it, its supervisor died, its download hung: again as it was, and then it is a failure."""
    assert tried(tmp_path / "good", *[end] * FREE_RESTARTS, GOOD)[:2] == (["large"] * (FREE_RESTARTS + 1), True)
    assert tried(tmp_path / "bad", *[end] * 99)[:2] == (["large"] * (FREE_RESTARTS + 1), False)


def test_what_hung_goes_on_another_way(tmp_path: Path):
    """From the first hanging download on, every try is without the protocol that hung."""
    assert tried(tmp_path, BAD, HANGING, BAD, GOOD, retries=2)[2] == [{}, {}, WITHOUT_XET, WITHOUT_XET]
