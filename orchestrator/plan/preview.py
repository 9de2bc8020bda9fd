"""What a run is expected to be, shown before it is confirmed: machines, hours, dollars, beside the plan's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from orchestrator.model import Plan, Settings
from orchestrator.plan.estimate import collecting_seconds, estimate, makespan, rates_in_use
from orchestrator.plan.machines import described, fits
from orchestrator.plan.notes import Remark, remarks
from orchestrator.plan.resolve import PhaseRun, StepRun
from orchestrator.ports import Offer

Figures = tuple[Decimal, Decimal]  # hours, USD


@dataclass(frozen=True)
class StepPreview:
    """One step: how long alone, and whether it is expected to run at all."""

    id: str
    seconds: float
    pulled_in: bool
    done: bool  # its record held when the volume was last seen


@dataclass(frozen=True)
class PhasePreview:
    """One phase. Dollars are None where no price is known."""

    phase: str
    title: str
    needs: str  # the machine in words
    offer: Offer | None  # the machine that would be tried first
    nodes: int
    takes_over: str | None  # the phase whose machine it goes on with
    price_hour: Decimal | None  # of all nodes
    budget_usd: Decimal | None
    planned: Figures | None  # the user's table
    estimated_hours: Decimal
    estimated_usd: Decimal | None
    measured: Figures | None  # of earlier runs
    steps: tuple[StepPreview, ...]
    pulled_in_hours: Decimal  # what the steps of other phases add to this one
    pulled_in_usd: Decimal | None
    earlier_first_saves_usd: (
        Decimal | None
    )  # when those steps ran in their own phases, on their machines; None: unknown
    cpu_usd: Decimal | None  # with all that needs no GPU on a CPU machine; None: nothing to gain, or no price

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is left to do, as last seen."""
        return all(step.done for step in self.steps)


@dataclass(frozen=True)
class Preview:
    """A whole run."""

    phases: tuple[PhasePreview, ...]
    volume_usd: Decimal  # for the estimated hours
    budget_usd: Decimal | None
    notes: tuple[Remark, ...] = field(default=())

    @property
    def planned(self) -> Figures:
        """The user's table, added up."""
        return _total(phase.planned for phase in self.phases)

    @property
    def estimated_hours(self) -> Decimal:
        """All phases, one after the other."""
        return sum((phase.estimated_hours for phase in self.phases), Decimal(0))

    @property
    def estimated_usd(self) -> Decimal | None:
        """Machines and volume. None: a phase has no price."""
        prices = [phase.estimated_usd for phase in self.phases]
        known = [price for price in prices if price is not None]
        return sum(known, self.volume_usd) if len(known) == len(prices) else None

    @property
    def measured(self) -> Figures | None:
        """Earlier runs, added up. None: a phase never ran."""
        found = [phase.measured for phase in self.phases]
        return _total(found) if all(found) else None

    @property
    def cpu_usd(self) -> Decimal | None:
        """The estimate with all that needs no GPU on CPU machines. None: no price for one."""
        if all(phase.cpu_usd is None for phase in self.phases) or self.estimated_usd is None:
            return None
        costs = [(phase.estimated_usd if phase.cpu_usd is None else phase.cpu_usd) for phase in self.phases]
        return sum((cost for cost in costs if cost is not None), self.volume_usd)

    @property
    def over_budget(self) -> tuple[str, ...]:
        """Why the estimate does not fit: a sentence for the run and for each phase above its cap."""
        over = [
            f"{phase.phase}: estimated ${phase.estimated_usd:.2f}, budget ${phase.budget_usd:.2f}"
            for phase in self.phases
            if phase.budget_usd is not None and (phase.estimated_usd or Decimal(0)) > phase.budget_usd
        ]
        if self.budget_usd is not None and (self.estimated_usd or Decimal(0)) > self.budget_usd:
            over.append(f"the run: estimated ${self.estimated_usd:.2f}, budget ${self.budget_usd:.2f}")
        return tuple(over)

    def document(self) -> dict[str, Any]:
        """The JSON document of `gpuplan plan --json`; money as text."""
        phases = [_plain(asdict(phase)) | {"up_to_date": phase.up_to_date} for phase in self.phases]
        totals = {
            "planned": self.planned,
            "estimated_hours": self.estimated_hours,
            "estimated_usd": self.estimated_usd,
            "measured": self.measured,
            "cpu_usd": self.cpu_usd,
            "volume_usd": self.volume_usd,
            "budget_usd": self.budget_usd,
            "over_budget": self.over_budget,
        }
        return {"phases": phases, "total": _plain(totals), "notes": [asdict(note) for note in self.notes]}


@dataclass(frozen=True)
class Market:
    """What is known from outside: prices now, and what earlier runs measured."""

    offers: Mapping[str, Offer] = field(default_factory=dict)  # phase -> the machine to try first; asked or not
    cpu: Offer | None = None  # the cheapest CPU machine at the same place
    volume_price_hour: Decimal = Decimal(0)
    rates: Mapping[str, float] = field(default_factory=dict)  # rate name -> MB/s measured
    earlier: Mapping[str, Figures] = field(default_factory=dict)  # phase -> hours, USD of its last whole run
    done: frozenset[str] = frozenset()  # ids of the steps whose records held when the volume was last seen
    stores: int = 0


def preview(plan: Plan, runs: Sequence[PhaseRun], market: Market) -> Preview:
    """Return what running these phases is expected to take, with the notes that apply to the plan."""
    phases: list[PhasePreview] = []
    for run in runs:
        phases.append(_phase(plan, run, market, phases))
    hours = sum((phase.estimated_hours for phase in phases), Decimal(0))
    whole = Preview(tuple(phases), _kept(hours * market.volume_price_hour), plan.settings.budget_usd)
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
    return Preview(whole.phases, whole.volume_usd, whole.budget_usd, remarks(plan.notes, known))


def _phase(plan: Plan, run: PhaseRun, market: Market, before: Sequence[PhasePreview]) -> PhasePreview:
    phase, settings = run.phase, plan.settings
    takes_over = next((p for p in before if p.phase == phase.machine.reuse and _takes_over(p, run)), None)
    offer = takes_over.offer if takes_over else market.offers.get(phase.name)
    price = offer.price_hour * phase.machine.nodes if offer else None
    open_steps = [step for step in run.steps if step.id not in market.done]
    boot = 0.0 if takes_over else settings.boot_seconds
    clock = _Clock(settings, market)
    seconds = boot + clock.steps(open_steps) + clock.collecting(run) if open_steps else 0.0
    pulled = [step for step in open_steps if step.pulled_in]
    added = clock.steps(open_steps) - clock.steps([step for step in open_steps if not step.pulled_in])
    return PhasePreview(
        phase=phase.name,
        title=phase.title,
        needs=described(phase.machine),
        offer=offer,
        nodes=phase.machine.nodes,
        takes_over=takes_over.phase if takes_over else None,
        price_hour=price,
        budget_usd=phase.budget_usd,
        planned=(phase.planned.hours, phase.planned.usd) if phase.planned else None,
        estimated_hours=_hours(seconds),
        estimated_usd=_usd(seconds, price),
        measured=market.earlier.get(phase.name),
        steps=tuple(
            StepPreview(s.id, estimate(s.step, settings, market.rates), s.pulled_in, s.id in market.done)
            for s in run.steps
        ),
        pulled_in_hours=_hours(added),
        pulled_in_usd=_usd(added, price),
        earlier_first_saves_usd=_saving(pulled, added, price, market, clock) if pulled else None,
        cpu_usd=_on_cpu(run, open_steps, boot, price, market.cpu, clock) if open_steps else None,
    )


@dataclass(frozen=True)
class _Clock:
    settings: Settings
    market: Market

    def steps(self, steps: Sequence[StepRun]) -> float:
        return makespan(steps, self.settings, self.market.rates)

    def collecting(self, run: PhaseRun) -> float:
        return collecting_seconds(run.phase, self.settings, self.market.rates, self.market.stores)


def _takes_over(earlier: PhasePreview, run: PhaseRun) -> bool:
    need = run.phase.machine
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


def _total(figures: Iterable[Figures | None]) -> Figures:
    known = [pair for pair in figures if pair]
    return sum((h for h, _ in known), Decimal(0)), sum((usd for _, usd in known), Decimal(0))


def _hours(seconds: float) -> Decimal:
    return _kept(Decimal(seconds) / 3600)


def _spent(seconds: float, price_hour: Decimal) -> Decimal:
    return _kept(Decimal(seconds) / 3600 * price_hour)


def _usd(seconds: float, price_hour: Decimal | None) -> Decimal | None:
    return None if price_hour is None else _spent(seconds, price_hour)


def _kept(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.0001"), ROUND_HALF_EVEN)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
