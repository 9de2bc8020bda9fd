"""How a plan's deliverables stand, and what the shell sees of those that were not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.ledger import open_ledger
from orchestrator.ledger.rows import DeliverableRow, PhaseRow
from orchestrator.report import verdicts
from orchestrator.report.verdicts import Verdict
from orchestrator.runner import Result
from orchestrator.words.errors import ExitCode
from orchestrator.words.lifecycle import Outcome, PhaseState
from orchestrator.words.model import Deliverable, Phase, Plan, Step
from orchestrator.words.spec import RunSpec, WorldSpec


def _spec(*phases: str) -> RunSpec:
    steps = (Step(name="s", run="true"),)
    asks = tuple(Deliverable(name=name, step="s") for name in ("first", "second"))
    plan = Plan(name="p", phases=tuple(Phase(name=n, steps=steps, deliverables=asks) for n in "abcd"))
    return RunSpec(
        run="r", owner="o", plan=plan, asked=phases, whole_plan=False, world=WorldSpec(provider="none"), place=None,
        pull_root="", created_at=1.0,
    )  # fmt: skip


def test_all_deliverables_of_the_plan_are_counted(tmp_path: Path):
    """Those that were answered, those of a phase that broke off, that did not begin, or that nobody asked for."""
    ledger = open_ledger(tmp_path)
    ledger.phases.put(PhaseRow(run="r", name="a", state=PhaseState.DONE, started_at=1.0))
    ledger.phases.put(PhaseRow(run="r", name="b", state=PhaseState.DONE))
    ledger.phases.put(PhaseRow(run="r", name="c", state=PhaseState.PLANNED))
    ledger.deliverables.put(DeliverableRow(run="r", phase="a", name="first", ok=None, detail="no GPU"))
    found = verdicts.of_run(ledger, _spec("a", "b", "c"))
    assert [(v.phase, v.name, v.ok) for v in found] == [(p, n, None) for p in "abcd" for n in ("first", "second")]
    assert [v.detail for v in found][::2] == ["no GPU", "the phase did not run", "not asked yet",
                                              "the phase was not asked for"]  # fmt: skip
    assert found[1].detail == "the phase ended before this was asked"
    assert [v.answered for v in found] == [True] + [False] * 7


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([True] * 24 + [None] * 6, "24 hold, 6 need a real GPU"),
        ([True, False, None], "1 holds, 1 does not hold, 1 needs a real GPU"),
        ([False, False], "0 hold, 2 do not hold"),
    ],
)
def test_the_summary(answers: list[bool | None], said: str):
    """Three numbers, and no word of those that are nought."""
    assert verdicts.summary([Verdict("p", str(n), ok) for n, ok in enumerate(answers)]) == said


def test_what_nobody_asked_needs_no_gpu():
    """A deliverable that nobody asked for is counted apart from one that could not be shown."""
    found = [Verdict("p", "a", ok=True), Verdict("p", "b", ok=None), Verdict("q", "c", ok=None, answered=False)]
    assert verdicts.summary(found) == "1 holds, 1 needs a real GPU, 1 was not asked"


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (Result(Outcome.SUCCEEDED, ()), ExitCode.DONE),
        (Result(Outcome.SUCCEEDED, (), unshown=1), ExitCode.FAILED),
        (Result(Outcome.INTERRUPTED, (), unshown=1), ExitCode.INTERRUPTED),
        (Result(Outcome.SUCCEEDED, ("a machine",), unshown=1), ExitCode.STILL_RUNNING),
    ],
)
def test_what_should_have_been_shown_and_was_not_is_exit_code_3(result: Result, code: ExitCode):
    """Outside a rehearsal an open deliverable is no success; what is worse stays worse."""
    assert result.exit_code == code
