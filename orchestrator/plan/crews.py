"""Which machines of a phase come and go together, and which of its steps run on which.

Staged, a phase has a CPU machine from its first step to its last upload, and its GPUs only from the first step that
needs one to the last. The second node and those after it come up for the first step that runs on them, in any phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.plan.resolve import PhaseRun, StepRun, resolve
from orchestrator.words.model import MachineNeed, Phase, Plan, RunsOn


class Name(StrEnum):
    """What a crew is called."""

    STAGING = "staging"
    MAIN = "main"
    WORKERS = "workers"


@dataclass(frozen=True)
class Crew:
    """Machines that are rented together, and the steps that they are rented for."""

    name: Name
    need: MachineNeed  # each of them
    nodes: tuple[int, ...]  # their numbers
    steps: tuple[StepRun, ...]  # none of these can run without them


def may_stage(run: PhaseRun) -> bool:
    """Whether a CPU machine could do some of the phase's steps: it would see on the volume what the others see."""
    phase = run.phase
    wanted = phase.machine.staging == "cpu" and phase.volume is not None and bool(phase.machine.gpu)
    return wanted and bool(staged_steps(run))


def staged_steps(run: PhaseRun) -> frozenset[str]:
    """The ids of the steps that a CPU machine does. A service and what needs it are on the machine of both."""
    light = {s.id for s in run.steps if not s.step.gpu and s.step.on is RunsOn.ROOT}
    services = {s.id for s in run.steps if s.step.ready}
    while apart := {s.id for s in run.steps for n in s.needs if n in services and (s.id in light) != (n in light)}:
        light -= apart | {n for s in run.steps for n in s.needs if n in services and s.id in apart}
    return frozenset(light)


def left_behind(plan: Plan) -> list[tuple[StepRun, StepRun]]:
    """Steps without GPU that create nothing, each with one that needs it on another machine.

    What such a step leaves outside the workspace does not reach that machine.
    """
    found = []
    for phase in plan.phases:
        run = next(iter(resolve(plan, [phase.name])))
        if may_stage(run):
            light = staged_steps(run)
            quiet = {s.id: s for s in run.steps if s.id in light and s.phase == phase.name and not _makes_files(s)}
            found += [(quiet[n], s) for s in run.steps if s.id not in light for n in s.needs if n in quiet]
    return found


def _makes_files(run: StepRun) -> bool:
    return bool(run.step.creates or run.step.hub or run.step.builtin)


def staging_need(phase: Phase) -> MachineNeed:
    """The CPU machine of a staged phase; its image is the provider's for such machines."""
    return phase.machine.model_copy(update={"gpu": (), "count": 1, "nodes": 1, "image": None, "reuse": None})


def crews_of(run: PhaseRun, need: MachineNeed, *, staged: bool) -> tuple[Crew, ...]:
    """The phase's crews. The first is there from beginning to end, the others while their steps need them.

    `need`: the phase's machine, as it is rented in this run.
    """
    light = staged_steps(run) if staged else frozenset[str]()
    heavy = tuple(s for s in run.steps if s.id not in light)
    found = [Crew(Name.MAIN, need, (0,), heavy)]
    if staged:
        held = tuple(s for s in run.steps if s.id in light)
        found.insert(0, Crew(Name.STAGING, staging_need(run.phase), (0,), held))
    if need.nodes > 1:
        spread = tuple(s for s in heavy if s.step.on is not RunsOn.ROOT)
        found.append(Crew(Name.WORKERS, need, tuple(range(1, need.nodes)), spread))
    return tuple(found)


def crews_for(crews: tuple[Crew, ...], step: str) -> tuple[Crew, ...]:
    """Those that must be there for a step to run."""
    return tuple(crew for crew in crews if any(run.id == step for run in crew.steps))
