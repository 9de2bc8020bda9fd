"""How long a phase will take: bytes over rates, with what runs at the same time sharing each rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.plan.globs import matches
from orchestrator.plan.resolve import StepRun
from orchestrator.words.model import Deliverable, Phase, Plan, Rates, Settings, Step

VOLUME, UPLOAD = "volume", "upload"
_MB_PER_GB = 1000


@dataclass(frozen=True)
class Stage:
    """Part of a step: so many seconds alone on a resource; resource "": nothing that others slow down."""

    resource: str
    seconds: float


def rates_in_use(rates: Rates, measured: Mapping[str, float]) -> dict[str, float]:
    """Return MB/s by rate; a measured one replaces the setting."""
    configured = {name: float(getattr(rates, name)) for name in Rates.model_fields}
    return configured | {name: speed for name, speed in measured.items() if name in configured and speed > 0}


def measured_rates(plan: Plan, spans: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return rate name -> MB/s from earlier steps. `spans`: step id -> start and end in seconds, of real machines only.

    The bytes of all steps at one rate over the time that at least one of them ran: two downloads at once share a line.
    """
    moved: dict[str, Decimal] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    for phase in plan.phases:
        for step in phase.steps:
            span = spans.get(f"{phase.name}/{step.name}")
            size = max(step.reads_gb, step.writes_gb)
            if span and size:
                moved[step.rate] = moved.get(step.rate, Decimal(0)) + size
                times.setdefault(step.rate, []).append(span)
    covered = {rate: _covered(found) for rate, found in times.items()}
    return {rate: float(size) * _MB_PER_GB / covered[rate] for rate, size in moved.items() if covered[rate] > 0}


def stages(step: Step, settings: Settings, measured: Mapping[str, float]) -> tuple[Stage, ...]:
    """Return what a step does one after the other. `measured`: rate name -> MB/s of earlier runs.

    Reading and writing overlap, so the larger counts. A hub checkout is read once more for its checksums.
    """
    if step.expect is not None:
        return (Stage("", step.expect),)
    fixed = Stage("", settings.step_seconds)
    moved = max(step.reads_gb, step.writes_gb)
    if not moved:
        return (fixed,)
    rates = rates_in_use(settings.rates, measured)
    limit = step.rate if rates[step.rate] < rates[VOLUME] else VOLUME  # all bytes come from the volume or go to it
    found = [fixed, Stage(limit, _seconds(moved, rates[limit]))]
    if step.hub:
        found.append(Stage(VOLUME, _seconds(step.writes_gb, rates[VOLUME])))
    return tuple(found)


def estimate(step: Step, settings: Settings, measured: Mapping[str, float]) -> float:
    """Return the seconds that a step takes when nothing else runs beside it."""
    return sum(stage.seconds for stage in stages(step, settings, measured))


def makespan(steps: Sequence[StepRun], settings: Settings, measured: Mapping[str, float]) -> float:
    """Return the seconds from the first step's start to the last one's end, with all that can run at once doing so.

    Steps on one resource share it evenly. Needs outside `steps` count as done; a service counts until it is ready.
    """
    waiting = {run.id: run for run in steps}
    left: dict[str, list[Stage]] = {}
    done: set[str] = set()
    clock = 0.0
    while waiting or left:
        for run in [r for r in waiting.values() if all(n in done or n not in _ids(steps) for n in r.needs)]:
            left[run.id] = list(stages(waiting.pop(run.id).step, settings, measured))
        if not left:  # a circle of needs: the configuration refuses it, so nobody waits here for ever
            break
        clock += _advance(left, done)
    return clock


def collecting_seconds(phase: Phase, settings: Settings, measured: Mapping[str, float], stores: int) -> float:
    """Return the seconds after the last step: checksums of what is compared and saved, and the uploads."""
    rates = rates_in_use(settings.rates, measured)
    compared = sum((_compared_gb(d, phase) for d in phase.deliverables), Decimal(0))
    hashing = _seconds(compared + phase.artifacts_gb, rates[VOLUME])
    return hashing + _seconds(phase.artifacts_gb, rates[UPLOAD]) * max(stores, 1)


def _advance(left: dict[str, list[Stage]], done: set[str]) -> float:
    """Let time pass until the first stage ends; return how much."""
    users: dict[str, int] = {}
    for todo in left.values():
        users[todo[0].resource] = users.get(todo[0].resource, 0) + 1
    slower = {resource: (count if resource else 1) for resource, count in users.items()}
    passed = min(todo[0].seconds * slower[todo[0].resource] for todo in left.values())
    for name, todo in list(left.items()):
        now = todo[0]
        rest = now.seconds - passed / slower[now.resource]
        if rest > 1e-6:
            todo[0] = Stage(now.resource, rest)
            continue
        todo.pop(0)
        if not todo:
            del left[name]
            done.add(name)
    return passed


def _compared_gb(deliverable: Deliverable, phase: Phase) -> Decimal:
    """What a `same` reads: the sizes that the steps say they write."""
    total = Decimal(0)
    for path in deliverable.same:
        total += next((step.writes_gb for step in phase.steps if makes(step, path)), Decimal(0))
    return total


def makes(step: Step, path: str) -> bool:
    """Whether a path below the workspace is one that the step says it creates."""
    folder = "" if step.cwd == "." else f"{step.cwd.strip('/')}/"
    return any(matches(path, folder + glob) for glob in step.creates)


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that at least one span covers."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total


def _seconds(gigabytes: Decimal, mb_per_second: float) -> float:
    return float(gigabytes) * _MB_PER_GB / mb_per_second


def _ids(steps: Iterable[StepRun]) -> set[str]:
    return {run.id for run in steps}
