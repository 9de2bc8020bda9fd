"""What a run cost: charges of machines and volumes shared out over the steps that used them. Decimal, exact.

The budget counts what accrued: price times the time from the accepted create to the proven end.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any

HOURS_A_MONTH = Decimal(720)  # 30 days: the shorter month, so that what we accrue is never below the invoice
LONGEST_MONTH = Decimal(744)  # hours: no bill by the month can be made with more
PLACES = Decimal("0.000001")  # what a report keeps: a step of a rehearsal costs far less than a cent
STARTING, IDLE, ENDING = "(starting)", "(idle)", "(ending)"
FAILED = "(did not come up)"  # what tries cost that gave no machine
_HOUR = Decimal(3600)
_SHOWN_LAST = (FAILED, STARTING, IDLE, ENDING)


@dataclass(frozen=True)
class MachineCharge:
    """One stretch of time in which a phase paid for a machine. gone_at None: it still does."""

    name: str
    phase: str
    provider: str
    price_hour: Decimal
    accepted_at: datetime
    gone_at: datetime | None = None
    failed: bool = False  # it never served: it did not come up


@dataclass(frozen=True)
class VolumeCharge:
    """A volume that costs. gone_at None: it still does."""

    name: str
    price_hour: Decimal
    created_at: datetime
    gone_at: datetime | None = None


@dataclass(frozen=True)
class StepTime:
    """When a step ran on which machines. ended None: it runs. A step may have several, one an attempt."""

    phase: str
    name: str
    machines: tuple[str, ...]
    started: datetime
    ended: datetime | None = None


Charge = MachineCharge | VolumeCharge


@dataclass(frozen=True)
class StepCost:
    """One line of a phase: a step, or time of its machines that no step used."""

    name: str
    seconds: Decimal
    usd: Decimal


@dataclass(frozen=True)
class PhaseCost:
    """One phase. `hours`: while it had a machine; usd: the sum of its lines. planned None: the plan does not say."""

    phase: str
    hours: Decimal
    usd: Decimal
    planned_hours: Decimal | None
    planned_usd: Decimal | None
    steps: tuple[StepCost, ...]


@dataclass(frozen=True)
class CostReport:
    """A run's bill. `settled`: nothing of it can change any more."""

    run: str
    phases: tuple[PhaseCost, ...]
    volumes_usd: Decimal
    settled: bool
    currency: str = field(default="USD")

    @property
    def total_usd(self) -> Decimal:
        """The phases and the volumes."""
        return sum((phase.usd for phase in self.phases), self.volumes_usd)

    @property
    def planned_usd(self) -> Decimal:
        """What the user's table says of these phases."""
        return sum((phase.planned_usd or Decimal(0) for phase in self.phases), Decimal(0))

    def document(self) -> dict[str, Any]:
        """The JSON document of `gpuplan cost --json`."""
        return {
            "run": self.run,
            "currency": self.currency,
            "phases": [_phase_document(phase) for phase in self.phases],
            "volumes_usd": _usd(self.volumes_usd),
            "total_usd": _usd(self.total_usd),
            "planned_usd": _usd(self.planned_usd),
            "settled": self.settled,
        }


def gb_hour(usd_gb_month: Decimal) -> Decimal:
    """USD an hour of one GB that costs so much a month, to a millionth of a cent: rounded up, as the month is short."""
    return (usd_gb_month / HOURS_A_MONTH).quantize(Decimal("1e-8"), ROUND_CEILING)


def accrued(charges: Iterable[Charge], now: datetime) -> Decimal:
    """USD of all charges up to `now`, unrounded."""
    return sum((_usd_between(c.price_hour, _start(c), _end(c, now)) for c in charges), Decimal(0))


def report(
    run: str,
    machines: Sequence[MachineCharge],
    volumes: Sequence[VolumeCharge],
    steps: Sequence[StepTime],
    *,
    now: datetime,
    planned: Mapping[str, tuple[Decimal, Decimal] | None],
    settled: bool = False,
) -> CostReport:
    """Share the charges out. `planned`: phase -> (hours, usd) of the plan's table, or None; its order is the report's.

    Phases that cost something but are not in `planned` follow, in the order of their first charge.
    """
    seen = [charge.phase for charge in sorted(machines, key=lambda c: c.accepted_at)]
    names = dict.fromkeys([*planned, *seen, *(step.phase for step in steps)])
    phases = tuple(_phase(name, machines, steps, planned.get(name), now) for name in names)
    return CostReport(run, phases, _rounded(accrued(volumes, now)), settled)


def _phase(
    name: str,
    machines: Sequence[MachineCharge],
    steps: Sequence[StepTime],
    planned: tuple[Decimal, Decimal] | None,
    now: datetime,
) -> PhaseCost:
    own = [step for step in steps if step.phase == name]
    charges = [charge for charge in machines if charge.phase == name]
    usd: dict[str, Decimal] = {}
    seconds: dict[str, Decimal] = {
        step.name: _ran(step.name, own, now) for step in sorted(own, key=lambda s: s.started)
    }
    for piece in (piece for charge in charges for piece in _pieces(charge, own, now)):
        usd[piece.name] = usd.get(piece.name, Decimal(0)) + piece.usd
        if piece.name in _SHOWN_LAST:
            seconds[piece.name] = seconds.get(piece.name, Decimal(0)) + piece.seconds
    steps_first = [line for line in seconds if line not in _SHOWN_LAST]  # in the order of their start
    lines = steps_first + [line for line in _SHOWN_LAST if line in seconds]
    total = _rounded(sum(usd.values(), Decimal(0)))
    shares = _rounded_to_sum({line: usd.get(line, Decimal(0)) for line in lines}, total)
    return PhaseCost(
        phase=name,
        hours=_rounded(_covered([(c.accepted_at, _end(c, now)) for c in charges]) / _HOUR),
        usd=total,
        planned_hours=planned[0] if planned else None,
        planned_usd=planned[1] if planned else None,
        steps=tuple(StepCost(line, _rounded(seconds[line]), shares[line]) for line in lines),
    )


def _pieces(charge: MachineCharge, steps: Sequence[StepTime], now: datetime) -> list[StepCost]:
    """The charge cut at every start and end of a step on its machine; steps at the same time share a piece evenly."""
    start, end = charge.accepted_at, _end(charge, now)
    if charge.failed:
        return [StepCost(FAILED, _seconds(start, end), _usd_between(charge.price_hour, start, end))]
    spans = [
        (step.name, max(step.started, start), min(step.ended or now, end))
        for step in steps
        if charge.name in step.machines
    ]
    spans = [span for span in spans if span[1] < span[2]]
    cuts = sorted({start, end, *(span[1] for span in spans), *(span[2] for span in spans)})
    pieces = []
    for left, right in itertools.pairwise(cuts):
        names = [name for name, since, until in spans if since <= left and right <= until]
        names = names or [_gap(left, spans)]
        usd, seconds = _usd_between(charge.price_hour, left, right), _seconds(left, right)
        pieces += [StepCost(name, seconds / len(names), usd / len(names)) for name in names]
    return pieces


def _gap(at: datetime, spans: Sequence[tuple[str, datetime, datetime]]) -> str:
    """What a machine's time without a step is called: before its first one, after its last one, or between."""
    if all(at < since for _, since, _ in spans):
        return STARTING
    return ENDING if all(until <= at for _, _, until in spans) else IDLE


def _ran(name: str, steps: Sequence[StepTime], now: datetime) -> Decimal:
    spans = [(step.started, step.ended or now) for step in steps if step.name == name]
    return _covered(spans)


def _covered(spans: Sequence[tuple[datetime, datetime]]) -> Decimal:
    """Seconds that at least one of the spans covers."""
    total, reached = Decimal(0), None
    for start, end in sorted(spans):
        since = start if reached is None else max(start, reached)
        if end > since:
            total += _seconds(since, end)
            reached = end
    return total


def _start(charge: Charge) -> datetime:
    return charge.accepted_at if isinstance(charge, MachineCharge) else charge.created_at


def _end(charge: Charge, now: datetime) -> datetime:
    return max(charge.gone_at or now, _start(charge))


def _seconds(start: datetime, end: datetime) -> Decimal:
    return Decimal((end - start) // timedelta(microseconds=1)) / 1_000_000


def _usd_between(price_hour: Decimal, start: datetime, end: datetime) -> Decimal:
    return price_hour * _seconds(start, end) / _HOUR


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(PLACES, ROUND_HALF_EVEN)


def _rounded_to_sum(amounts: dict[str, Decimal], total: Decimal) -> dict[str, Decimal]:
    """Each amount rounded so that they add up to `total`: the largest remainders are rounded up."""
    floors = {name: amount.quantize(PLACES, ROUND_FLOOR) for name, amount in amounts.items()}
    missing = int((total - sum(floors.values(), Decimal(0))) / PLACES)
    by_remainder = sorted(amounts, key=lambda name: floors[name] - amounts[name])
    for name in by_remainder[: max(missing, 0)]:
        floors[name] += PLACES
    return floors


def _usd(amount: Decimal) -> str:
    """Money as text: cents at least, and what a report keeps where there is something behind them."""
    whole, _, cents = f"{_rounded(amount):f}".rstrip("0").partition(".")
    return f"{whole}.{cents:0<2}"


def _phase_document(phase: PhaseCost) -> dict[str, Any]:
    return {
        "phase": phase.phase,
        "hours": float(phase.hours),
        "usd": _usd(phase.usd),
        "planned_hours": float(phase.planned_hours or 0),
        "planned_usd": _usd(phase.planned_usd or Decimal(0)),
        "steps": [{"name": s.name, "seconds": float(s.seconds), "usd": _usd(s.usd)} for s in phase.steps],
    }
