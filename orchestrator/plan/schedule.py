"""A phase as it is expected to go: when each step runs, and from when to when each crew is paid for.

What runs at the same time shares each rate. A crew that comes later is there just when its first step may begin.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from orchestrator.plan.crews import Crew, Name, crews_for
from orchestrator.plan.estimate import (
    HOME,
    UPLOAD,
    VOLUME,
    Stage,
    compared_gb,
    makes_artifacts,
    rates_in_use,
    seconds,
    stages,
)
from orchestrator.plan.resolve import PhaseRun, StepRun
from orchestrator.words.model import Settings

COLLECT = "@collect"
Span = tuple[float, float]  # seconds from the beginning of the phase


@dataclass(frozen=True)
class Schedule:
    """`seconds`: from the first machine's create until all that is to be saved is."""

    seconds: float
    steps: Mapping[str, Span]
    crews: Mapping[Name, Span]  # boots included; a crew that nothing needs is missing

    def lasts(self, step: str) -> float:
        """How long a step takes beside what runs with it."""
        begin, end = self.steps[step]
        return end - begin


@dataclass
class Task:
    """Something that takes its stages one after the other once its needs have ended; then `span` says when it did."""

    needs: frozenset[str]
    stages: list[Stage]
    side: Name | None = None  # where it writes; None: it creates no files
    span: list[float] = field(default_factory=list)


class Scheduler:
    """Makes the schedules of phases, at these rates. `stores`: how many take the artifacts."""

    def __init__(self, settings: Settings, measured: Mapping[str, float], stores: int) -> None:
        self._settings, self._measured, self._stores = settings, measured, stores
        self._rates = rates_in_use(settings.rates, measured)

    def of(self, run: PhaseRun, crews: tuple[Crew, ...], done: Collection[str], *, booted: bool = False) -> Schedule:
        """The phase without the steps that are `done`. `booted`: its first machine is there already."""
        opened = [step for step in run.steps if step.id not in done]
        boot = 0.0 if booted else self._settings.boot_seconds
        tasks = self._steps(opened, crews)
        tasks |= self.collecting(run, opened, tasks, early=crews[0].name is Name.STAGING)
        simulate(tasks)
        spans = {name: (boot + task.span[0], boot + task.span[1]) for name, task in tasks.items() if task.span}
        lasts = max((end for _, end in spans.values()), default=boot)
        steps = {step.id: spans[step.id] for step in opened if step.id in spans}
        paid = {crews[0].name: (0.0, lasts)}
        for crew in crews[1:]:
            if used := [steps[s.id] for s in crew.steps if s.id in steps]:
                users = [steps[s.id] for s in opened if s.id in steps and _uses_service(s, crew)]
                begins = min(begin for begin, _ in used) - self._settings.boot_seconds
                paid[crew.name] = (begins, max(end for _, end in (*used, *users)))
        return Schedule(lasts, steps, paid)

    def _steps(self, opened: Sequence[StepRun], crews: tuple[Crew, ...]) -> dict[str, Task]:
        boots = {f"@{c.name}": Task(frozenset(), [Stage("", self._settings.boot_seconds)]) for c in crews[1:]}
        tasks = dict(boots)
        ids = {step.id for step in opened}
        for step in opened:
            mine = crews_for(crews, step.id)
            waits = {f"@{crew.name}" for crew in mine} & boots.keys()
            side = mine[0].name if mine and (step.step.creates or step.step.hub) else None
            needs = frozenset(need for need in step.needs if need in ids) | waits
            tasks[step.id] = Task(needs, list(stages(step.step, self._settings, self._measured)), side)
        return tasks

    def collecting(
        self,
        run: PhaseRun,
        opened: Sequence[StepRun],
        tasks: Mapping[str, Task],
        *,
        early: bool = True,
        hashed: bool = True,
    ) -> dict[str, Task]:
        """Checksums of what is compared, and the artifacts' upload, once all steps are done.

        `early`: artifacts are on their way as soon as they are made. `hashed`: what is sent is read once before that.
        """
        found: dict[str, Task] = {}
        rest = run.phase.artifacts_gb
        for step, size in makes_artifacts(run.phase, opened).items() if early else ():
            found[f"@save {step}"] = Task(frozenset({step}), self._saving(run, size, hashed=hashed))
            rest -= size
        compared = sum((compared_gb(d, run.phase) for d in run.phase.deliverables), Decimal(0))
        last = [Stage(VOLUME, seconds(compared, self._rates[VOLUME])), *self._saving(run, rest, hashed=hashed)]
        ends = frozenset(name for name in (*tasks, *found) if not name.startswith("@") or name in found)
        found[COLLECT] = Task(ends, last)
        return found

    def _saving(self, run: PhaseRun, size: Decimal, *, hashed: bool) -> list[Stage]:
        """A checksum, then each store; where there is none, the way home, which a machine is paid for then."""
        read = [Stage(VOLUME, seconds(size, self._rates[VOLUME]))] if hashed else []
        if self._stores:
            return read + [Stage(UPLOAD, seconds(size, self._rates[UPLOAD]))] * self._stores
        return read + ([Stage(HOME, seconds(size, self._rates[HOME]))] if run.phase.pull_to else [])


def simulate(tasks: Mapping[str, Task]) -> None:
    """Give each task its span. One whose needs never end has none."""
    clock, going, done = 0.0, dict[str, Task](), set[str]()
    while True:
        for name, task in tasks.items():
            if name not in going and not task.span and task.needs <= done and _may_write(task, going.values()):
                task.span, going[name] = [clock], task
        if not going:
            return
        clock += _advance(going)
        for name, task in list(going.items()):
            if not task.stages:
                task.span.append(clock)
                done.add(name)
                del going[name]


def _may_write(task: Task, going: Iterable[Task]) -> bool:
    """Whether nothing creates files on another machine meanwhile."""
    return task.side is None or all(other.side in (None, task.side) for other in going)


def _advance(going: Mapping[str, Task]) -> float:
    """Let time pass until the first stage ends; return how much."""
    users: dict[str, int] = {}
    for task in going.values():
        while task.stages and task.stages[0].seconds <= 0:
            task.stages.pop(0)
        if task.stages:
            users[task.stages[0].resource] = users.get(task.stages[0].resource, 0) + 1
    slower = {resource: (count if resource else 1) for resource, count in users.items()}
    busy = [task for task in going.values() if task.stages]
    if len(busy) < len(going):
        return 0.0  # one of them had nothing to do
    passed = min(task.stages[0].seconds * slower[task.stages[0].resource] for task in busy)
    for task in busy:
        now = task.stages[0]
        rest = now.seconds - passed / slower[now.resource]
        task.stages[0:1] = [Stage(now.resource, rest)] if rest > 1e-6 else []
    return passed


def _uses_service(step: StepRun, crew: Crew) -> bool:
    return any(run.step.ready and run.id in step.needs for run in crew.steps)


def makespan(steps: Sequence[StepRun], settings: Settings, measured: Mapping[str, float]) -> float:
    """Return the seconds from the first step's start to the last one's end, on one machine that is there.

    Needs outside `steps` count as done; a service counts until it is ready.
    """
    ids = {run.id for run in steps}
    tasks = {
        run.id: Task(frozenset(run.needs) & ids, list(stages(run.step, settings, measured)), None) for run in steps
    }
    simulate(tasks)
    return max((task.span[-1] for task in tasks.values() if task.span), default=0.0)
