"""Which steps each phase of a run holds: its own, and those of other phases that they need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from orchestrator.words.errors import UsageError
from orchestrator.words.model import Input, Phase, Plan, Step

ALL = "all"


@dataclass(frozen=True)
class StepRun:
    """One step as a phase of this run will do it."""

    id: str  # PHASE/STEP, of the phase whose file holds it
    phase: str  # that phase
    step: Step
    needs: tuple[str, ...]  # ids
    env: dict[str, str] = field(default_factory=dict)  # the phase's < the step's
    secrets: tuple[str, ...] = ()  # of the phase whose file holds it, and its own
    inputs: tuple[Input, ...] = ()  # that it fetches, where it is the step that does
    pulled_in: bool = False  # True: it belongs to a phase that this run was not asked for, or that comes later


@dataclass(frozen=True)
class PhaseRun:
    """One phase of a run; `steps` in an order in which every need comes first."""

    phase: Phase
    steps: tuple[StepRun, ...]

    @property
    def pulled_in(self) -> tuple[StepRun, ...]:
        """The steps of other phases."""
        return tuple(step for step in self.steps if step.pulled_in)


def step_id(phase: str, name: str) -> str:
    """Return the id of a step that `phase` names: `clone` is its own, `day1/clone` another phase's."""
    return name if "/" in name else f"{phase}/{name}"


def all_steps(plan: Plan) -> dict[str, StepRun]:
    """Every step of the plan by id, in the order of the files."""
    return {
        f"{phase.name}/{step.name}": StepRun(
            id=f"{phase.name}/{step.name}",
            phase=phase.name,
            step=step,
            needs=tuple(step_id(phase.name, need) for need in step.needs),
            env={**phase.env, **step.env},
            secrets=tuple(dict.fromkeys((*phase.secrets, *step.secrets))),
            inputs=phase.inputs if step.builtin == "inputs" else (),
        )
        for phase in plan.phases
        for step in phase.steps
    }


def chosen(plan: Plan, asked: Sequence[str]) -> tuple[Phase, ...]:
    """Return the phases asked for, each once, in the plan's order; `all` means every one. UsageError: no such phase."""
    names = [phase.name for phase in plan.phases]
    for name in asked:
        if name != ALL and name not in names:
            close = get_close_matches(name, names, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}, all"
            raise UsageError(f"there is no phase {name} in the {plan.called}", remedy=remedy)
    if not asked:
        raise UsageError("which phase?", remedy=f"there are: {', '.join(names)}, all")
    return plan.phases if ALL in asked else tuple(phase for phase in plan.phases if phase.name in asked)


def resolve(plan: Plan, asked: Sequence[str]) -> tuple[PhaseRun, ...]:
    """Return what a run of `asked` does, phase by phase.

    A step of another phase is held by the first asked phase that needs it, unless an earlier one runs it.
    Whether it is already done is for the volume to say, not for the plan.
    """
    steps = all_steps(plan)
    taken: set[str] = set()
    runs = []
    for phase in chosen(plan, asked):
        own = [f"{phase.name}/{step.name}" for step in phase.steps]
        held = [step for step in ordered(steps, own) if step not in taken]
        taken.update(held)
        runs.append(
            PhaseRun(
                phase=phase,
                steps=tuple(_as_pulled_in(steps[step], phase.name) for step in held),
            )
        )
    return tuple(runs)


def forced(runs: Sequence[PhaseRun], names: Sequence[str]) -> tuple[str, ...]:
    """The steps of these runs that are repeated when those of `names` are: they, and all that need them.

    A name is PHASE/STEP, a STEP that only one phase has, or `all`. UsageError: there is no such step in the run.
    """
    steps = {step.id: step for run in runs for step in run.steps}
    found = set(steps) if ALL in names else {_named(steps, name) for name in names}
    for step in ordered(steps, steps):
        if found & set(steps[step].needs):
            found.add(step)
    return tuple(step for step in steps if step in found)


def _named(steps: Collection[str], name: str) -> str:
    fitting = [step for step in steps if name in (step, step.rpartition("/")[2])]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(f"more than one phase has a step {name}", remedy=f"name one: {', '.join(fitting)}")
    close = get_close_matches(name, [*steps, *(step.rpartition("/")[2] for step in steps)], n=1)
    remedy = f"did you mean {close[0]}?" if close else f"there are: {', '.join(steps)}, all"
    raise UsageError(f"the run has no step {name}", remedy=remedy)


def ordered(steps: Mapping[str, StepRun], wanted: Iterable[str]) -> list[str]:
    """Return the wanted steps and all that they need, needs first, otherwise in the order of the files."""
    order: dict[str, None] = {}

    def visit(step: str) -> None:
        if step not in order:
            for need in steps[step].needs:
                if need in steps:
                    visit(need)
            order[step] = None

    for step in wanted:
        visit(step)
    return list(order)


def _as_pulled_in(run: StepRun, phase: str) -> StepRun:
    if run.phase == phase:
        return run
    return replace(run, pulled_in=True)
