"""Who made a file: the steps that say that they create it, and whether they succeeded in this state of the volume."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator

from orchestrator.engine import records
from orchestrator.engine.context import Context
from orchestrator.plan import StepRun
from orchestrator.plan.globs import matches
from orchestrator.plan.resolve import all_steps
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import StepFailed


def require(context: Context, agent: Agent, workspace: str, patterns: Iterable[str]) -> None:
    """StepFailed: a step that creates what these globs below the workspace mean has not succeeded.

    Of those that this run does every one must have; where it does none of them, one must have left a done-record that
    holds. A file that no step of the plan says that it creates is anybody's.
    """
    rows = {row.id: row for row in context.ledger.steps.all(run=context.run)}
    for pattern in patterns:
        makers = [run for run in all_steps(context.spec.plan).values() if _may_make(run, pattern)]
        ours = [rows[run.id] for run in makers if run.id in rows]
        for row in ours:
            if not row.state.is_done:
                raise StepFailed(f"{row.id}, which makes {pattern}, is {row.state.lower()}")
        if makers and not ours and not any(records.read(context, agent, workspace, run) for run in makers):
            raise StepFailed(f"{makers[0].id}, which makes {pattern}, has no done-record that holds")


def _may_make(run: StepRun, pattern: str) -> bool:
    return any(matches(pattern, made) or matches(made, pattern) for made in _made_by(run))


def _made_by(run: StepRun) -> Iterator[str]:
    """The globs below the workspace that a step creates."""
    for glob in run.step.creates:
        yield posixpath.normpath(posixpath.join(run.step.cwd, glob))
    if run.step.hub:
        yield posixpath.normpath(run.step.hub.dir)
