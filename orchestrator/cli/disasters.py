"""What --fault asks for, before anything begins: a disaster that exists, at a step that the run has."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config.problems import nearest
from orchestrator.plan import PhaseRun
from orchestrator.rehearsal.faults import AT_A_STEP, parse
from orchestrator.words.errors import UsageError


def require_real(faults: Sequence[str], runs: Sequence[PhaseRun]) -> None:
    """UsageError when one of these faults names no disaster, or no step of the run."""
    steps = {name for phase in runs for run in phase.steps for name in (run.step.name, run.id)}
    for fault in faults:
        try:
            name, where, _ = parse(fault)
        except ValueError as error:
            raise UsageError(f"--fault {fault}: {error}") from error
        if name in AT_A_STEP and where not in steps:
            raise UsageError(f"--fault {fault}: the run has no step {where}", remedy=nearest(where, steps))
