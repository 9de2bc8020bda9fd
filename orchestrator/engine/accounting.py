"""From the ledger's rows to charges: a machine costs from the moment its create was sent until it is proven gone."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from orchestrator import cost
from orchestrator.ledger import Ledger, tables


def machine_charges(ledger: Ledger, run: str, phase: str | None = None) -> list[cost.MachineCharge]:
    """One charge for each stretch of time that a phase held a machine; refused creates cost nothing."""
    found = []
    key = {"run": run} | ({"phase": phase} if phase else {})
    for row in ledger.all(tables.charges, **key):
        machine = ledger.one(tables.machines, name=row["machine"])
        if not machine["sent_at"] or (machine["gone_at"] and not machine["provider_id"]):
            continue
        found.append(
            cost.MachineCharge(
                name=str(row["machine"]),
                phase=str(row["phase"]),
                provider=str(machine["provider"]),
                price_hour=Decimal(machine["price_hour"]),
                accepted_at=moment(max(row["since"], machine["sent_at"])),
                gone_at=moment(row["until"]) if row["until"] else None,
            )
        )
    return found


def volume_charges(ledger: Ledger, run: str) -> list[cost.VolumeCharge]:
    """The volumes that this run made, from their create until they are gone, or the run is."""
    end = ledger.one(tables.runs, id=run)["ended_at"]
    return [
        cost.VolumeCharge(
            name=str(row["name"]),
            price_hour=Decimal(row["price_hour"]),
            created_at=moment(row["sent_at"]),
            gone_at=moment(row["gone_at"] or end) if row["gone_at"] or end else None,
        )
        for row in ledger.all(tables.volumes, run=run)
        if row["sent_at"]
    ]


def accrued(ledger: Ledger, run: str, phase: str | None = None) -> Decimal:
    """USD that the run (or one phase of it, without volumes) has cost up to now."""
    charges: list[cost.MachineCharge | cost.VolumeCharge] = [*machine_charges(ledger, run, phase)]
    if phase is None:
        charges += volume_charges(ledger, run)
    return cost.accrued(charges, datetime.now(UTC))


def moment(seconds: float) -> datetime:
    """A ledger's time as an aware one."""
    return datetime.fromtimestamp(seconds, UTC)
