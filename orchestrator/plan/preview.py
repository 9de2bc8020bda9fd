"""Looks ahead: what running some phases is expected to take, from the plan and what is known of the market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_EVEN, Decimal

from orchestrator.plan.estimate import collecting_seconds, estimate, makespan, rates_in_use
from orchestrator.plan.machines import bare, described, fits
from orchestrator.plan.notes import Measured, expectations, remarks
from orchestrator.plan.outlook import Figures, PhasePreview, Preview, StepPreview
from orchestrator.plan.resolve import PhaseRun, StepRun
from orchestrator.words.model import MachineNeed, Plan, Settings
from orchestrator.words.ports import Offer

__all__ = ["Market", "PhasePreview", "Preview", "StepPreview", "preview"]


@dataclass(frozen=True)
class Market:
    """What is known from outside: prices now, and what earlier runs measured."""

    offers: Mapping[str, Offer] = field(default_factory=dict)  # phase -> the machine to try first; asked or not
    dearest: Mapping[str, Decimal] = field(default_factory=dict)  # phase -> USD an hour of the last machine to try
    cpu: Offer | None = None  # the cheapest CPU machine at the same place
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
    for run in runs:
        phases.append(_phase(plan, run, market, phases))
    hours = sum((phase.estimated_hours for phase in phases), Decimal(0))
    volume_usd = _kept(hours * market.volume_price_hour)
    whole = Preview(tuple(phases), volume_usd, plan.settings.budget_usd, spent_usd=market.spent_usd)
    sizes = [phase.volume.size_gb for phase in plan.phases if phase.volume]
    known: dict[str, Decimal | None] = {
        "planned_hours": whole.planned[0],
        "planned_usd": whole.planned[1],
        "estimated_hours": whole.estimated_hours,
        "estimated_usd": whole.estimated_usd,
        "cpu_usd": whole.cpu_usd,
        "volume_gb": Decimal(max(sizes)) if sizes else None,
    }
    rates = rates_in_use(plan.settings.rates, market.rates)
    known |= {f"rate_{name}": Decimal(str(speed)) for name, speed in rates.items()}
    expected = expectations(plan.notes, known, market.metrics)
    return replace(whole, notes=remarks(plan.notes, known), expected=expected)


def _phase(plan: Plan, run: PhaseRun, market: Market, before: Sequence[PhasePreview]) -> PhasePreview:
    phase, settings = run.phase, plan.settings
    need = bare(phase.machine) if phase.name in market.looked_at else phase.machine
    idle = phase.name in market.idle
    takes_over = next((p for p in before if p.phase == need.reuse and _takes_over(p, need)), None)
    offer = takes_over.offer if takes_over else market.offers.get(phase.name)
    price = offer.price_hour * need.nodes if offer else None
    dearest = market.dearest.get(phase.name)
    open_steps = [step for step in run.steps if step.id not in market.done]
    boot = 0.0 if takes_over else settings.boot_seconds
    clock = _Clock(settings, market)
    seconds = 0.0 if idle else boot + clock.steps(open_steps) + clock.collecting(run)
    pulled = [step for step in open_steps if step.pulled_in]
    added = clock.steps(open_steps) - clock.steps([step for step in open_steps if not step.pulled_in])
    return PhasePreview(
        phase=phase.name,
        title=phase.title,
        needs=described(need),
        offer=None if idle else offer,
        nodes=need.nodes,
        takes_over=takes_over.phase if takes_over else None,
        price_hour=None if idle else price,
        budget_usd=phase.budget_usd,
        planned=(phase.planned.hours, phase.planned.usd) if phase.planned else None,
        estimated_hours=_hours(seconds),
        estimated_usd=Decimal(0) if idle else _usd(seconds, price),
        measured=market.earlier.get(phase.name),
        steps=tuple(
            StepPreview(s.id, estimate(s.step, settings, market.rates), s.pulled_in, s.id in market.done)
            for s in run.steps
        ),
        pulled_in_hours=_hours(added),
        pulled_in_usd=_usd(added, price),
        earlier_first_saves_usd=_saving(pulled, added, price, market, clock) if pulled else None,
        dearest_hour=dearest * need.nodes if dearest and not takes_over else None,
        cpu_usd=_on_cpu(run, open_steps, boot, price, market.cpu, clock) if open_steps else None,
        up_to_date=idle,
    )


@dataclass(frozen=True)
class _Clock:
    settings: Settings
    market: Market

    def steps(self, steps: Sequence[StepRun]) -> float:
        return makespan(steps, self.settings, self.market.rates)

    def collecting(self, run: PhaseRun) -> float:
        return collecting_seconds(run.phase, self.settings, self.market.rates, self.market.stores)


def _takes_over(earlier: PhasePreview, need: MachineNeed) -> bool:
    return earlier.offer is not None and earlier.nodes >= need.nodes and fits(need, earlier.offer)


def _saving(
    pulled: Sequence[StepRun], added: float, price: Decimal | None, market: Market, clock: _Clock
) -> Decimal | None:
    """What it saves to run the pulled-in steps in their own phases first, a boot of each machine included."""
    own = Decimal(0)
    for name in dict.fromkeys(step.phase for step in pulled):
        if name not in market.offers:
            return None
        seconds = clock.steps([step for step in pulled if step.phase == name]) + clock.settings.boot_seconds
        own += _spent(seconds, market.offers[name].price_hour)
    return None if price is None else max(_spent(added, price) - own, Decimal(0))


def _on_cpu(
    run: PhaseRun, steps: Sequence[StepRun], boot: float, price: Decimal | None, cpu: Offer | None, clock: _Clock
) -> Decimal | None:
    """The phase's cost with what needs no GPU on a CPU machine first or after; None: not cheaper, or no price."""
    without = [step for step in steps if not step.step.gpu]
    if not without or price is None or cpu is None:
        return None
    on_gpu = clock.steps([step for step in steps if step.step.gpu])
    on_cpu = clock.settings.boot_seconds + clock.steps(without) + clock.collecting(run)
    split = _spent(on_cpu, cpu.price_hour) + (_spent(boot + on_gpu, price) if on_gpu else Decimal(0))
    return split if split < _spent(boot + clock.steps(steps) + clock.collecting(run), price) else None


def _hours(seconds: float) -> Decimal:
    return _kept(Decimal(seconds) / 3600)


def _spent(seconds: float, price_hour: Decimal) -> Decimal:
    return _kept(Decimal(seconds) / 3600 * price_hour)


def _usd(seconds: float, price_hour: Decimal | None) -> Decimal | None:
    return None if price_hour is None else _spent(seconds, price_hour)


def _kept(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.0001"), ROUND_HALF_EVEN)
