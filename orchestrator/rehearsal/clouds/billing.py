"""What the clouds charge. RunPod by the second, Lambda by the started minute; fractions are never rounded up twice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, Decimal

from orchestrator.rehearsal.clouds.records import Billed, Instance, Records, Span

UNIT_SECONDS = {"runpod": 1, "lambda": 60}
_MICRO = Decimal("0.000001")
_HOUR = Decimal(3600)


def whole_seconds(span: Span, now: datetime) -> int:
    """RunPod bills by the second; that a begun second is free is our guess, no document says."""
    return max(0, int(((span.end or now) - span.start).total_seconds()))


def started_minutes(span: Span, now: datetime) -> int:
    """Lambda bills in steps of a minute, a begun one in full."""
    return math.ceil(max(0.0, ((span.end or now) - span.start).total_seconds()) / 60)


def cost(thing: Billed, now: datetime) -> Decimal:
    """USD that a pod, a volume or an instance has cost up to now, not rounded."""
    if isinstance(thing, Instance):
        return sum((s.price_hour * started_minutes(s, now) / 60 for s in thing.spans), Decimal(0))
    return sum((s.price_hour * whole_seconds(s, now) / _HOUR for s in thing.spans), Decimal(0))


def cost_between(spans: Sequence[Span], start: datetime, end: datetime, now: datetime) -> Decimal:
    """The share of `cost` that falls into a bucket: buckets of a whole history add up to the whole cost."""
    return _cost_until(spans, min(end, now)) - _cost_until(spans, min(start, now))


def _cost_until(spans: Sequence[Span], moment: datetime) -> Decimal:
    cut = [
        Span(price_hour=s.price_hour, start=s.start, end=min(s.end or moment, moment))
        for s in spans
        if s.start < moment
    ]
    return sum((s.price_hour * whole_seconds(s, moment) / _HOUR for s in cut), Decimal(0))


def invoice(records: Records, now: datetime) -> dict[str, object]:
    """The bill in decimal strings, by the name of the machine or volume."""
    machines: dict[str, Decimal] = {}
    _add(machines, records.pods.values(), now)
    _add(machines, records.instances.values(), now)
    volumes: dict[str, Decimal] = {}
    _add(volumes, records.volumes.values(), now)
    total = sum(machines.values(), Decimal(0)) + sum(volumes.values(), Decimal(0))
    return {
        "machines": {name: str(usd) for name, usd in machines.items()},
        "volumes": {name: str(usd) for name, usd in volumes.items()},
        "total": str(total),
        "unit_seconds": UNIT_SECONDS,
    }


def _add(amounts: dict[str, Decimal], things: Iterable[Billed], now: datetime) -> None:
    for thing in things:
        amounts[thing.name] = amounts.get(thing.name, Decimal(0)) + cost(thing, now).quantize(_MICRO, ROUND_DOWN)
