"""From the ledger's rows to charges: a machine costs from the moment its create was sent until it is proven gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator import cost

if TYPE_CHECKING:  # reading commands load no more than they read
    from orchestrator.ledger import Ledger
    from orchestrator.ledger.rows import VolumeRow
    from orchestrator.words.spec import RunSpec


def machine_charges(ledger: Ledger, run: str, phase: str | None = None) -> list[cost.MachineCharge]:
    """What the machines cost, one charge for each stretch of time that a phase held one.

    The stretches of a machine whose bill is known add up to that; of the others they are `counted`.
    """
    found = counted(ledger, run)
    for machine in ledger.machines.all(run=run):
        if machine.billed_usd is not None:
            found = _as_billed(found, machine.name, machine.billed_usd)
    return [charge for charge in found if phase in {None, charge.phase}]


def counted(ledger: Ledger, run: str) -> list[cost.MachineCharge]:
    """The same by our own clock and the machines' prices alone; refused creates cost nothing."""
    found = []
    machines = {row.name: row for row in ledger.machines.all(run=run)}
    for row in ledger.charges.all(run=run):
        machine = machines[row.machine]
        if not machine.sent_at or (machine.gone_at and not machine.provider_id):
            continue
        found.append(
            cost.MachineCharge(
                name=row.machine,
                phase=row.phase,
                provider=machine.provider,
                price_hour=machine.price_hour,
                accepted_at=moment(max(row.since, machine.sent_at)),
                gone_at=moment(row.until) if row.until else None,
                failed=bool(machine.failed),
            )
        )
    return found


def _as_billed(charges: list[cost.MachineCharge], name: str, usd: Decimal) -> list[cost.MachineCharge]:
    """The charges with that machine's as large as its bill is, each by its share."""
    own = [charge for charge in charges if charge.name == name and charge.gone_at]
    counted = cost.accrued(own, max((charge.gone_at for charge in own if charge.gone_at), default=moment(0)))
    if not counted:
        return charges
    return [replace(c, price_hour=c.price_hour * usd / counted) if c in own else c for c in charges]


def volume_charges(ledger: Ledger, run: str) -> list[cost.VolumeCharge]:
    """The volumes that this run made or used, from then until they are gone or it has ended, whichever is first."""
    row = ledger.runs.get(id=run)
    found = []
    for volume in volumes_of(ledger, run):
        if volume.sent_at:
            since = volume.sent_at if volume.run == run else row.created_at
            until = min((end for end in (volume.gone_at, row.ended_at) if end), default=None)
            gone = moment(max(until, since)) if until else None
            found.append(
                cost.VolumeCharge(
                    name=volume.name, price_hour=volume.price_hour, created_at=moment(since), gone_at=gone
                )
            )
    return found


def volumes_of(ledger: Ledger, run: str) -> list[VolumeRow]:
    """The volumes that this run made or used."""
    used = {use.volume for use in ledger.volume_uses.all(run=run)}
    return [volume for volume in ledger.volumes.all() if volume.run == run or volume.name in used]


def living_volumes(ledger: Ledger, spec: RunSpec) -> list[VolumeRow]:
    """The volumes of the run's plan, in its cloud, that cost money: this run's, and what earlier ones left."""
    labels = {spec.label(p.volume) for p in spec.plan.phases if p.volume}
    rows = ledger.volumes.all(cloud=spec.cloud)
    return [row for row in rows if not row.state.is_final and row.label in labels]


def accrued(ledger: Ledger, run: str, phase: str | None = None) -> Decimal:
    """USD that the run (or one phase of it, without volumes) has cost up to now."""
    charges: list[cost.MachineCharge | cost.VolumeCharge] = [*machine_charges(ledger, run, phase)]
    if phase is None:
        charges += volume_charges(ledger, run)
    return cost.accrued(charges, moment(ledger.now()))


def accrued_with_earlier(ledger: Ledger, run: str, phase: str | None = None) -> Decimal:
    """USD of the run and of those that it goes on with (RUN, RUN.2, ...): one budget for all of them."""
    base = run.partition(".")[0]
    chain = [row.id for row in ledger.runs.all() if row.id.partition(".")[0] == base]
    return sum((accrued(ledger, one, phase) for one in chain), Decimal(0))


def usd_hour(ledger: Ledger, run: str, phase: str | None = None) -> Decimal:
    """What the run's machines and volumes that may still exist cost an hour; of one phase, its machines alone."""
    machines = [row for row in ledger.machines.all(run=run) if not row.state.is_final]
    if phase is not None:
        held = {charge.machine for charge in ledger.charges.all(run=run, phase=phase, until=None)}
        return sum((row.price_hour for row in machines if row.name in held), Decimal(0))
    prices = [row.price_hour for row in machines]
    prices += [row.price_hour for row in volumes_of(ledger, run) if not row.state.is_final]
    return sum(prices, Decimal(0))


def moment(seconds: float) -> datetime:
    """A ledger's time as an aware one."""
    return datetime.fromtimestamp(seconds, UTC)
