"""What a run is expected to be, shown before it is confirmed: machines, hours, dollars, beside the plan's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from orchestrator.plan.costing import CrewCost
from orchestrator.plan.notes import Expectation, Remark
from orchestrator.words.provider import Offer

CREDIT_MARGIN = Decimal("1.25")  # of the estimate: what is to be there before it begins
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
    dearest_hour: Decimal | None  # of all nodes, when the others are sold out; None: not known
    worst_usd: Decimal | None = None  # on the dearest machines that may be tried, each booted for it; None: not known
    crews: tuple[CrewCost, ...] = ()  # what it rents, each from its create to its end
    staged: bool = False  # what needs no GPU runs on a CPU machine
    up_to_date: bool = False  # nothing is left to do, as last seen: nothing is rented for it


@dataclass(frozen=True)
class Ways:
    """What the same work takes done otherwise, the volume included. Dollars are None where no price is known."""

    own: tuple[Decimal, Decimal | None]  # as the plan says: every phase on all its machines to its end
    cheapest: tuple[Decimal, Decimal | None]
    far_end: tuple[Decimal, Decimal | None]  # as it is done, at the lowest rates where nobody has measured any
    own_far_end: tuple[Decimal, Decimal | None]


@dataclass(frozen=True)
class Preview:
    """A whole run."""

    phases: tuple[PhasePreview, ...]
    volume_usd: Decimal  # for the estimated hours
    budget_usd: Decimal | None
    notes: tuple[Remark, ...] = ()
    expected: tuple[Expectation, ...] = ()
    spent_usd: Decimal = Decimal(0)  # of the budget, by the runs that this one goes on with
    ways: Ways | None = None
    bound_hours: Mapping[str, Decimal] = field(default_factory=dict)  # see costing.bounds
    pull_hours: Decimal = Decimal(0)  # of the way home from the store, when no machine is left: it costs nothing
    credit_usd: Decimal | None = None  # at the provider; None: nothing is paid ahead there, or it does not say

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
    def worst_usd(self) -> Decimal | None:
        """Machines, each the dearest that may be tried, and volume. None: a phase has no price."""
        prices = [phase.worst_usd if phase.worst_usd is not None else phase.estimated_usd for phase in self.phases]
        known = [price for price in prices if price is not None]
        return sum(known, self.volume_usd) if len(known) == len(prices) else None

    @property
    def over_budget(self) -> tuple[str, ...]:
        """Why it does not fit: a sentence for the run and for each phase above its cap, at worst."""
        over = [
            said
            for p in self.phases
            if (said := _above(p.phase, p.estimated_usd, p.worst_usd, p.budget_usd, Decimal(0)))
        ]
        said = _above("the run", self.estimated_usd, self.worst_usd, self.budget_usd, self.spent_usd)
        return tuple([*over, said] if said else over)

    @property
    def short_of_credit(self) -> str:
        """Why what was paid ahead may not last: at its end the provider stops every machine. "": it lasts."""
        wanted = (self.estimated_usd or Decimal(0)) * CREDIT_MARGIN
        if self.credit_usd is None or self.credit_usd >= wanted:
            return ""
        return f"the account's credit is ${self.credit_usd:.2f}; with a quarter to spare ${wanted:.2f} are needed"

    def document(self) -> dict[str, Any]:
        """The JSON document of `gpuplan plan --json`; money as text."""
        phases = [_plain(asdict(phase)) for phase in self.phases]
        totals = {
            "planned": self.planned,
            "estimated_hours": self.estimated_hours,
            "estimated_usd": self.estimated_usd,
            "worst_usd": self.worst_usd,
            "measured": self.measured,
            "ways": asdict(self.ways) if self.ways else None,
            "bound_hours": dict(self.bound_hours),
            "pull_hours": self.pull_hours,
            "volume_usd": self.volume_usd,
            "budget_usd": self.budget_usd,
            "over_budget": self.over_budget,
        }
        notes = [asdict(note) for note in self.notes]
        expected = [asdict(item) for item in self.expected]
        return {"phases": phases, "total": _plain(totals), "notes": notes, "expected": expected}


def _above(what: str, likely: Decimal | None, worst: Decimal | None, budget: Decimal | None, spent: Decimal) -> str:
    """Why it is more than its budget, on the machines that are tried first or on dearer ones; "": it is not."""
    first, last = likely or Decimal(0), max(worst or Decimal(0), likely or Decimal(0))
    if budget is None or last + spent <= budget:
        return ""
    dearest = f", ${last:.2f} on the dearest machines that may be tried" if first + spent <= budget else ""
    earlier = f", spent by the runs before it ${spent:.2f}" if spent else ""
    return f"{what}: estimated ${first:.2f}{dearest}{earlier}, budget ${budget:.2f}"


def _total(figures: Iterable[Figures | None]) -> Figures:
    known = [pair for pair in figures if pair]
    return sum((h for h, _ in known), Decimal(0)), sum((usd for _, usd in known), Decimal(0))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
