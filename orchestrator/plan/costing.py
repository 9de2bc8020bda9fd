"""What phases take and cost on their machines: the one way that a run takes, and others beside it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from orchestrator.plan.crews import Crew, Name, crews_of
from orchestrator.plan.estimate import UPLOAD, VOLUME, Stage, rates_in_use, stages
from orchestrator.plan.resolve import PhaseRun, StepRun
from orchestrator.plan.schedule import Schedule, Scheduler, Task, simulate
from orchestrator.words.model import MachineNeed, Settings
from orchestrator.words.provider import Offer

HUB = "hub"
_KEPT = Decimal("0.0001")


@dataclass(frozen=True)
class CrewCost:
    """Machines of a phase that come and go together."""

    crew: str
    nodes: int
    offer: Offer | None
    hours: Decimal  # from its create to its end
    usd: Decimal | None  # of all its nodes; None: no price is known


@dataclass(frozen=True)
class PhaseCost:
    """One phase on its machines."""

    seconds: float
    crews: tuple[CrewCost, ...]

    @property
    def usd(self) -> Decimal | None:
        """Its machines. None: one of them has no price."""
        prices = [crew.usd for crew in self.crews]
        known = [price for price in prices if price is not None]
        return sum(known, Decimal(0)) if len(known) == len(prices) else None


def cost_of(schedule: Schedule, crews: Sequence[Crew], offer: Offer | None, cpu: Offer | None) -> PhaseCost:
    """Price a schedule. `cpu`: the staging machine, `offer`: each of the others."""
    found = []
    for crew in crews:
        if crew.name in schedule.crews:
            begin, end = schedule.crews[crew.name]
            sold = cpu if crew.name is Name.STAGING else offer
            usd = None if sold is None else spent((end - begin) * len(crew.nodes), sold.price_hour)
            found.append(CrewCost(crew.name, len(crew.nodes), sold, hours(end - begin), usd))
    return PhaseCost(schedule.seconds, tuple(found))


def as_the_plan_says(run: PhaseRun, need: MachineNeed) -> tuple[Crew, ...]:
    """All of the phase's machines from its beginning to its end."""
    return (Crew(Name.MAIN, need, tuple(range(need.nodes)), run.steps),)


def crews(run: PhaseRun, need: MachineNeed, staged: Collection[str]) -> tuple[Crew, ...]:
    """The phase's crews where those phases are staged."""
    return crews_of(run, need, staged=run.phase.name in staged)


def way(
    scheduler: Scheduler, runs: Sequence[tuple[PhaseRun, MachineNeed]], staged: Collection[str] | None,
    offers: Mapping[str, Offer], cpu: Offer | None, done: Collection[str], reused: Mapping[str, Offer],
) -> list[PhaseCost]:  # fmt: skip
    """Every phase one after the other. `staged` None: as the plan says, each on all its machines to its end.

    `reused`: phases that go on with an earlier one's machine, where they are not staged: it has booted.
    """
    found: list[PhaseCost] = []
    before: PhaseRun | None = None
    for run, need in runs:
        mine = as_the_plan_says(run, need) if staged is None else crews(run, need, staged)
        earlier = reused.get(run.phase.name) if run.phase.name not in (staged or ()) else None
        booted = earlier is not None or (before is not None and staged is not None and goes_on(before, run, staged))
        schedule = scheduler.of(run, mine, done, booted=booted)
        found.append(cost_of(schedule, mine, earlier or offers.get(run.phase.name), cpu))
        before = run
    return found


def goes_on(before: PhaseRun, run: PhaseRun, staged: Collection[str]) -> bool:
    """Whether a staged phase takes the staging machine of the one before it over."""
    both = before.phase.name in staged and run.phase.name in staged
    return both and before.phase.volume == run.phase.volume


def bounds(runs: Sequence[PhaseRun], settings: Settings, measured: Mapping[str, float], stores: int,
           done: Collection[str]) -> dict[str, Decimal]:  # fmt: skip
    """Hours that no schedule goes below: for each resource its bytes over its rate, and all of them along the needs.

    Every byte crosses once: what is downloaded, converted, read, compared and sent; nothing boots, starts or waits.
    """
    used = dict.fromkeys((HUB, VOLUME, UPLOAD), 0.0)
    along = 0.0
    for run in runs:
        opened = [step for step in run.steps if step.id not in done]
        ids = {step.id for step in opened}
        tasks = {s.id: Task(frozenset(s.needs) & ids, _bytes(s, settings, measured)) for s in opened}
        tasks |= Scheduler(settings, measured, stores).collecting(run, opened, tasks, hashed=False)
        for task in tasks.values():
            for stage in task.stages:
                name = stage.resource if stage.resource in used else VOLUME
                used[name] += stage.seconds
        simulate(tasks)
        along += max((task.span[-1] for task in tasks.values()), default=0.0)
    return {name: hours(seconds) for name, seconds in (*used.items(), ("along_needs", along))}


def _bytes(run: StepRun, settings: Settings, measured: Mapping[str, float]) -> list[Stage]:
    """The part of a step that moves bytes."""
    return [stage for stage in stages(run.step, settings, measured) if stage.resource]


def far_end(settings: Settings, measured: Mapping[str, float]) -> dict[str, float]:
    """MB/s by rate, the lowest that is known of where nobody has measured."""
    low = {name: float(getattr(settings.rates_low, name)) for name in type(settings.rates_low).model_fields}
    near = rates_in_use(settings.rates, measured)
    return {name: near[name] if measured.get(name) else min(low[name], near[name]) for name in near}


def hours(seconds: float) -> Decimal:
    """As it is shown and kept."""
    return kept(Decimal(seconds) / 3600)


def spent(seconds: float, price_hour: Decimal) -> Decimal:
    """USD of so many seconds."""
    return kept(Decimal(seconds) / 3600 * price_hour)


def kept(amount: Decimal) -> Decimal:
    """To a hundredth of a cent."""
    return amount.quantize(_KEPT, ROUND_HALF_EVEN)
