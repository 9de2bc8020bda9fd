"""How long a phase will take: bytes over rates, with what runs at the same time sharing each rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from posixpath import normpath

from orchestrator.plan.globs import matches
from orchestrator.plan.resolve import StepRun
from orchestrator.words.model import Deliverable, Phase, Plan, Rates, Settings, Step

VOLUME, UPLOAD, HOME = "volume", "upload", "home"
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

    Reading and writing overlap, so the larger counts. A hub checkout is hashed file by file as it arrives.
    """
    if step.expect is not None:
        return (Stage("", step.expect),)
    fixed = Stage("", settings.step_seconds)
    moved = max(step.reads_gb, step.writes_gb)
    if not moved:
        return (fixed,)
    rates = rates_in_use(settings.rates, measured)
    limit = step.rate if rates[step.rate] < rates[VOLUME] else VOLUME  # all bytes come from the volume or go to it
    return (fixed, Stage(limit, seconds(moved, rates[limit])))


def estimate(step: Step, settings: Settings, measured: Mapping[str, float]) -> float:
    """Return the seconds that a step takes when nothing else runs beside it."""
    return sum(stage.seconds for stage in stages(step, settings, measured))


def compared_gb(deliverable: Deliverable, phase: Phase) -> Decimal:
    """What a `same` reads: the sizes that the steps say they write."""
    total = Decimal(0)
    for path in deliverable.same:
        total += next((step.writes_gb for step in phase.steps if makes(step, path)), Decimal(0))
    return total


def makes_artifacts(phase: Phase, steps: Sequence[StepRun]) -> dict[str, Decimal]:
    """Step id -> GB of the phase's artifacts that it makes: as it says that it writes, or all of them by the first."""
    makers = [s for s in steps if s.id in artifact_makers(phase, steps)]
    written = sum((s.step.writes_gb for s in makers), Decimal(0))
    if not written:
        return {s.id: phase.artifacts_gb for s in makers[:1]}
    share = min(phase.artifacts_gb / written, Decimal(1))
    return {s.id: s.step.writes_gb * share for s in makers if s.step.writes_gb}


def artifact_makers(phase: Phase, steps: Sequence[StepRun]) -> tuple[str, ...]:
    """The ids of the steps that create artifacts of the phase."""
    return tuple(s.id for s in steps if any(_is_artifact(s.step, pattern, phase) for pattern in s.step.creates))


def _is_artifact(step: Step, pattern: str, phase: Phase) -> bool:
    path = normpath(f"{step.cwd}/{pattern}")
    return any(matches(path, glob) or glob == path for glob in phase.artifacts)


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


def seconds(gigabytes: Decimal, mb_per_second: float) -> float:
    """How long so many GB take."""
    return float(gigabytes) * _MB_PER_GB / mb_per_second
