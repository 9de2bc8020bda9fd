"""The RunPod account's prepaid credit: what is left of it. When nothing is, every pod is stopped."""

from __future__ import annotations

from decimal import Decimal

from orchestrator.rehearsal.clouds.billing import cost
from orchestrator.rehearsal.clouds.context import Context

ENOUGH = Decimal(1000)  # with as much at its beginning nobody looks
LOOK = 60.0  # cloud seconds between two looks of the vendor's; how often it looks is not documented


def left(context: Context) -> Decimal:
    """USD that are left. The fault `credit-low` sets what is left from now on."""
    records, now = context.records, context.clock.now()
    things = [*records.pods.values(), *(v for v in records.volumes.values() if v.vendor == "runpod")]
    spent = sum((cost(thing, now) for thing in things), Decimal(0))
    if cents := context.faults.take_anywhere("credit-low"):
        records.credit = spent + Decimal(cents) / 100
    return records.credit - spent
