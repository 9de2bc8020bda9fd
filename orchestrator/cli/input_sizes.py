"""What a plan's inputs weigh, asked of their stores: for the estimate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal

from orchestrator.words.errors import GpuplanError
from orchestrator.words.model import Input, Phase, Plan
from orchestrator.words.source import Source


def with_sizes(plan: Plan, source: Callable[[Input], Source], phases: tuple[str, ...]) -> Plan:
    """The plan with the sizes of these phases' inputs where it says none and their stores do."""
    if not any(phase.inputs for phase in plan.phases if phase.name in phases):
        return plan
    weighed = [_weighed(phase, source) if phase.name in phases else phase for phase in plan.phases]
    return plan.model_copy(update={"phases": tuple(weighed)})


def _weighed(phase: Phase, source: Callable[[Input], Source]) -> Phase:
    total = sum((_gb(one, source) for one in phase.inputs), Decimal(0))
    steps = [step.model_copy(update={"writes_gb": total}) if step.builtin == "inputs" else step for step in phase.steps]
    return phase.model_copy(update={"steps": tuple(steps)})


def _gb(one: Input, source: Callable[[Input], Source]) -> Decimal:
    """As the plan says, else as the store does; 0: nobody does, and the run itself will say why."""
    if one.gb:
        return one.gb
    with suppress(GpuplanError):
        return Decimal(sum(file.bytes for file in source(one).listing())) / 10**9
    return Decimal(0)
