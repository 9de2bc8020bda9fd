"""What a run would take: machines, hours and dollars of each phase, and the same work done otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from orchestrator.plan.costing import PhaseCost, bounds, cost_of, crews, far_end, goes_on, hours, kept, spent, way
from orchestrator.plan.crews import Name, may_stage
from orchestrator.plan.estimate import estimate, rates_in_use, seconds
from orchestrator.plan.machines import bare, described, fits
from orchestrator.plan.notes import Measured, expectations, remarks
from orchestrator.plan.outlook import Figures, PhasePreview, Preview, StepPreview, Ways
from orchestrator.plan.resolve import PhaseRun, StepRun
from orchestrator.plan.schedule import Scheduler
from orchestrator.words.model import MachineNeed, Plan
from orchestrator.words.provider import Offer


@dataclass(frozen=True)
class Market:
    """What a preview needs to know from outside: prices now, and what earlier runs measured."""

    offers: Mapping[str, Offer] = field(default_factory=dict)  # phase -> the machine to try first; asked or not
    dearest: Mapping[str, Decimal] = field(default_factory=dict)  # phase -> USD an hour of the dearest one to try
    cpu: Offer | None = None  # the CPU machine that is tried first at the same place
    dearest_cpu: Decimal | None = None  # USD an hour of the dearest one to try; None: not known
    staged: frozenset[str] = frozenset()  # phases whose steps without GPU run on it
    volume_price_hour: Decimal = Decimal(0)
    rates: Mapping[str, float] = field(default_factory=dict)  # rate name -> MB/s measured
    earlier: Mapping[str, Figures] = field(default_factory=dict)  # phase -> hours, USD of its last whole run
    done: frozenset[str] = frozenset()  # ids of the steps whose records held when the volume was last seen
    idle: frozenset[str] = frozenset()  # phases of which nothing is left to do: nothing is rented for them
    looked_at: frozenset[str] = frozenset()  # phases that a machine without GPU looks at: nothing is left to run
    stores: int = 0
    spent_usd: Decimal = Decimal(0)  # by the runs that this one goes on with: they share its budget
    metrics: Measured = field(default_factory=dict)  # what steps of earlier real runs measured


def preview(plan: Plan, runs: Sequence[PhaseRun], market: Market) -> Preview:
    """Return what running these phases is expected to take, with the notes that apply to the plan."""
    phases: list[PhasePreview] = []
    for number, run in enumerate(runs):
        phases.append(_phase(plan, run, market, phases, runs[number - 1] if number else None))
    took = sum((phase.estimated_hours for phase in phases), Decimal(0))
    volume_usd = kept(took * market.volume_price_hour)
    busy = [run for run in runs if run.phase.name not in market.idle]
    saved = sum((run.phase.artifacts_gb for run in busy if run.phase.pull_to), Decimal(0))
    rates = rates_in_use(plan.settings.rates, market.rates)
    whole = Preview(
        tuple(phases),
        volume_usd,
        plan.settings.budget_usd,
        spent_usd=market.spent_usd,
        ways=_ways(plan, busy, market, phases),
        bound_hours=bounds(busy, plan.settings, market.rates, market.stores, market.done),
        pull_hours=hours(seconds(saved, rates["home"])) if market.stores else Decimal(0),
    )
    sizes = [phase.volume.size_gb for phase in plan.phases if phase.volume]
    own = whole.ways.own[1] if whole.ways else None
    known: dict[str, Decimal | None] = {
        "planned_hours": whole.planned[0],
        "planned_usd": whole.planned[1],
        "estimated_hours": whole.estimated_hours,
        "estimated_usd": whole.estimated_usd,
        "own_way_usd": own if market.staged else None,
        "volume_gb": Decimal(max(sizes)) if sizes else None,
    }
    known |= {f"rate_{name}": Decimal(str(speed)) for name, speed in rates.items()}
    expected = expectations(plan.notes, known, market.metrics)
    return replace(whole, notes=remarks(plan.notes, known), expected=expected)


def _phase(
    plan: Plan, run: PhaseRun, market: Market, phases: Sequence[PhasePreview], before: PhaseRun | None
) -> PhasePreview:
    phase = run.phase
    need = _need(run, market)
    idle, staged = phase.name in market.idle, phase.name in market.staged
    last = phases[-1] if phases and not phases[-1].up_to_date else None
    staging = last if last and before and staged and goes_on(before, run, market.staged) else None
    other = next((p for p in phases if p.phase == need.reuse and _takes_over(p, need)), None) if not staged else None
    takes_over = staging or other
    offer = other.offer if other else market.offers.get(phase.name)
    dearest = market.dearest.get(phase.name)
    pricing = _Pricing(plan, run, need, replace(market, offers={**market.offers, phase.name: offer} if offer else {}))
    cost = pricing.cost(market.done, booted=takes_over is not None)
    pulled = [step for step in run.steps if step.pulled_in and step.id not in market.done]
    rest = pricing.cost(market.done | {step.id for step in pulled}, booted=takes_over is not None)
    added = None if cost.usd is None or rest.usd is None else cost.usd - rest.usd
    return PhasePreview(
        phase=phase.name,
        title=phase.title,
        needs=described(need),
        offer=None if idle else offer,
        nodes=need.nodes,
        takes_over=takes_over.phase if takes_over else None,
        price_hour=_price_hour(cost, offer, need) if not idle else None,
        budget_usd=phase.budget_usd,
        planned=(phase.planned.hours, phase.planned.usd) if phase.planned else None,
        estimated_hours=Decimal(0) if idle else hours(cost.seconds),
        estimated_usd=Decimal(0) if idle else cost.usd,
        measured=market.earlier.get(phase.name),
        steps=tuple(
            StepPreview(s.id, estimate(s.step, plan.settings, market.rates), s.pulled_in, s.id in market.done)
            for s in run.steps
        ),
        pulled_in_hours=hours(cost.seconds - rest.seconds),
        pulled_in_usd=added,
        earlier_first_saves_usd=_saving(plan, pulled, added, market) if pulled else None,
        dearest_hour=dearest * need.nodes if dearest and not other else None,
        worst_usd=Decimal(0) if idle else _worst(pricing, offer, dearest),
        crews=() if idle else cost.crews,
        staged=staged,
        up_to_date=idle,
    )


@dataclass(frozen=True)
class _Pricing:
    """One phase, priced with more or fewer of its steps done."""

    plan: Plan
    run: PhaseRun
    need: MachineNeed
    market: Market

    def cost(self, done: frozenset[str], *, booted: bool = False) -> PhaseCost:
        mine = crews(self.run, self.need, self.market.staged)
        scheduler = Scheduler(self.plan.settings, self.market.rates, self.market.stores)
        schedule = scheduler.of(self.run, mine, done, booted=booted)
        return cost_of(schedule, mine, self.market.offers.get(self.run.phase.name), self.market.cpu)


def _worst(pricing: _Pricing, offer: Offer | None, dearest: Decimal | None) -> Decimal | None:
    """USD of the phase on the dearest machines that may be tried, each booted for it. None: a price is not known."""
    market, name = pricing.market, pricing.run.phase.name
    first = None if offer is None else replace(offer, price_hour=max(offer.price_hour, dearest or Decimal(0)))
    cpu = market.cpu
    if cpu and market.dearest_cpu:
        cpu = replace(cpu, price_hour=max(cpu.price_hour, market.dearest_cpu))
    offers = {**market.offers, name: first} if first else market.offers
    return replace(pricing, market=replace(market, offers=offers, cpu=cpu)).cost(market.done).usd


def _price_hour(cost: PhaseCost, offer: Offer | None, need: MachineNeed) -> Decimal | None:
    """USD of all its nodes; of the CPU machine, where it rents nothing else."""
    if cost.crews and all(crew.crew == Name.STAGING for crew in cost.crews):
        return sum((crew.offer.price_hour for crew in cost.crews if crew.offer), Decimal(0))
    return offer.price_hour * need.nodes if offer else None


def _need(run: PhaseRun, market: Market) -> MachineNeed:
    return bare(run.phase.machine) if run.phase.name in market.looked_at else run.phase.machine


def _takes_over(earlier: PhasePreview, need: MachineNeed) -> bool:
    return (
        earlier.offer is not None and not earlier.staged and earlier.nodes >= need.nodes and fits(need, earlier.offer)
    )


def _saving(plan: Plan, pulled: Sequence[StepRun], added: Decimal | None, market: Market) -> Decimal | None:
    """What it saves to run the pulled-in steps in their own phases first, a boot of each machine included."""
    own = Decimal(0)
    for name in dict.fromkeys(step.phase for step in pulled):
        steps = tuple(step for step in pulled if step.phase == name)
        phase = plan.phase(name).model_copy(update={"artifacts_gb": Decimal(0), "deliverables": ()})
        alone = PhaseRun(phase, steps)
        staged = market.staged | ({name} if market.staged and may_stage(alone) else frozenset())
        cost = _Pricing(plan, alone, phase.machine, replace(market, staged=staged)).cost(frozenset())
        if cost.usd is None:
            return None
        own += cost.usd
    return None if added is None else max(added - own, Decimal(0))


def _ways(plan: Plan, runs: Sequence[PhaseRun], market: Market, phases: Sequence[PhasePreview]) -> Ways:
    """The same work as the plan has it, as cheaply as it is sold, and at the lowest rates."""
    reused = {p.phase: p.offer for p in phases if p.takes_over and not p.staged and p.offer}
    needs = [(run, _need(run, market)) for run in runs]
    could = frozenset(run.phase.name for run in runs if may_stage(run)) if market.cpu else frozenset[str]()

    def took(rates: Mapping[str, float], staged: frozenset[str] | None) -> tuple[Decimal, Decimal | None]:
        scheduler = Scheduler(plan.settings, rates, market.stores)
        costs = way(scheduler, needs, staged, market.offers, market.cpu, market.done, reused)
        lasted = sum(cost.seconds for cost in costs)
        machines = [cost.usd for cost in costs]
        known = [usd for usd in machines if usd is not None]
        volume = spent(lasted, market.volume_price_hour)
        return hours(lasted), sum(known, volume) if len(known) == len(machines) else None

    own = took(market.rates, None)
    low = far_end(plan.settings, market.rates)
    ways = [own, took(market.rates, could), took(market.rates, market.staged)]
    cheapest = min(ways, key=lambda found: (found[1] is None, found[1] or Decimal(0)))
    return Ways(own, cheapest, far_end=took(low, market.staged), own_far_end=took(low, None))
