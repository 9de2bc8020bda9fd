"""A machine's own disk is in its price: it counts for the caps, accrues, and is in the bill that settles the run."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator import cost
from orchestrator.cli.proposal import estimate
from orchestrator.engine import accounting
from orchestrator.engine.creation import offer_of
from orchestrator.engine.recording import read
from orchestrator.plan import with_disk
from orchestrator.report import documents
from orchestrator.testing import audit
from orchestrator.testing.machine import Script
from orchestrator.words.errors import NoMachine, OverBudget
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.provider import Offer
from tests.unit.cli.desk import Desk
from tests.unit.engine.test_budget import confirmed

PLAN = """
settings: {boot_seconds: 3600}
only: {LIMITS machine: {MACHINE, staging: none}, timeout: 12h, steps: [{name: work, run: work, GPU timeout: 8h}]}
"""
CARD = "gpu: [RTX-4090]"
THREE_HOURS = {"work": Script(seconds=3 * 3600)}


def desk_of(folder: Path, machine: str = CARD, limits: str = "", provider: str = "runpod") -> Desk:
    """A phase that works for three hours."""
    gpu = "" if "RTX" in machine or "A100" in machine else "gpu: false,"
    text = PLAN.replace("MACHINE", machine).replace("LIMITS", limits).replace("GPU", gpu)
    return Desk(folder, text, scripts=THREE_HOURS, provider=provider, place=None if provider == "lambda" else "EU-RO-1")


@pytest.mark.parametrize(
    ("machine", "spot", "price", "disk"),
    [
        (CARD, False, "0.74", "0.0069445"),  # 50 GB at $0.10 in 720 hours
        (CARD, True, "0.37", "0.0069445"),
        (f"{CARD}, disk_gb: 720", False, "0.74", "0.1000008"),
        ("gpu: []", False, "0.24", "0.0069445"),
        ("gpu: [], disk_gb: 720", False, "0.24", "0.0111112"),  # 80 GB go with eight vCPUs
    ],
)
def test_it_accrues_and_is_billed_and_settled(tmp_path: Path, machine: str, price: str, disk: str, *, spot: bool):
    """On demand, interruptible, without GPU: three hours of both; the invoice is no more, and is what is settled."""
    desk = desk_of(tmp_path, machine)
    assert desk.run("all", spot=spot).outcome == Outcome.SUCCEEDED
    ledger, run = desk.bench.ledger(), desk.bench.spec.run
    (row,) = ledger.machines.all()
    assert (row.price_hour - row.disk_hour, row.disk_hour) == (Decimal(price), Decimal(disk))
    (charge,) = accounting.counted(ledger, run)
    (work,) = ledger.steps.all(run=run)
    since, until = (accounting.moment(at or 0) for at in (work.started_at, work.ended_at))
    alone = cost.MachineCharge("m", "only", "p", charge.price_hour, since, until)
    assert float(cost.accrued([alone], until)) == pytest.approx(3 * float(Decimal(price) + Decimal(disk)), rel=1e-3)
    (bill,) = map(Decimal, desk.bench.clouds.invoice()["machines"].values())
    months = Decimal(720) / 730  # the vendor's month is longer
    assert float(bill) > 3 * float(Decimal(price) + Decimal(disk) * months)
    assert bill <= cost.accrued([charge], desk.bench.clock.now())
    assert audit.unsafe(desk.bench) + audit.overpaid(desk.bench) + audit.settled(desk.bench, ledger, run) == []
    assert (ledger.runs.get(id=run).settled, row.billed_usd and abs(row.billed_usd - bill) < Decimal("1e-6")) == (
        True,
        True,
    )


def test_where_it_is_part_of_the_price_nothing_is_added(tmp_path: Path):
    """Lambda's machines cost what their type costs, whatever disk is asked for."""
    desk = desk_of(tmp_path, "gpu: [A100-80GB], disk_gb: 5000", provider="lambda")
    offer = desk.propose("all", provider="lambda").preview.phases[0].offer
    assert offer is not None
    assert offer.disk_hour == 0
    assert with_disk(offer, 5000) == offer


def test_status_and_phases_say_it_while_it_runs(tmp_path: Path):
    """What a machine costs an hour, and its phase for a cap, has its disk."""
    desk = desk_of(tmp_path, f"{CARD}, disk_gb: 720", "budget_usd: 0.5,")
    assert desk.propose("all").preview.phases[0].price_hour == Decimal("0.8400008")
    desk.run("all")
    ledger, run = desk.bench.ledger(), desk.bench.spec.run
    said = documents.status(ledger, desk.bench.spec, driven=False)
    assert [m["usd_hour"] for m in said["machines"]] == ["0.8400008"]
    assert accounting.usd_hour(ledger, run) == 0


def test_the_budget_before_the_run_counts_it(tmp_path: Path):
    """An hour of a card fits into $1.20; with 5000 GB of its own, $0.69 an hour, it does not."""
    confirmed(desk_of(tmp_path / "small", CARD, "budget_usd: 1.2, max_usd_hour: 1,"))
    with pytest.raises(OverBudget, match=r"only: estimated \$1\.45, budget \$1\.20"):
        confirmed(desk_of(tmp_path / "large", f"{CARD}, disk_gb: 5000", "budget_usd: 1.2, max_usd_hour: 1.5,"))


def test_max_usd_hour_counts_it(tmp_path: Path):
    """A card at $0.74 is not to be had for $0.74 an hour: it has a disk."""
    assert desk_of(tmp_path / "a", CARD, "max_usd_hour: 0.75,").propose("all")
    with pytest.raises(NoMachine, match=r"not sold in EU-RO-1 for \$0.74 an hour"):
        desk_of(tmp_path / "b", CARD, "max_usd_hour: 0.74,").propose("all")


@pytest.mark.parametrize(
    ("machine", "price"), [(CARD, "0.7469445"), ("gpu: []", "0.2469445"), ("gpu: [], disk_gb: 720", "0.2511112")]
)
def test_an_estimate_from_the_dated_list_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, price: str
):
    """Where no key is set, the machines of configs/prices.yaml have the disk that is asked for, or can be had."""
    for name in ("RUNPOD_API_KEY", "LAMBDA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    desk = desk_of(tmp_path, machine)
    found = estimate(desk.home, desk.bench.ledger(), desk.bench.spec.plan, ("all",), provider=None, spot=False)
    assert (found.preview.phases[0].price_hour, found.prices_from[:12]) == (Decimal(price), "runpod's lis")


def test_a_staging_machine_has_the_largest_disk_that_a_phase_asks_for(tmp_path: Path):
    """The CPU machine of a staged phase is priced, and rented, with what of its disk goes with the size."""
    text = """
    fetch:
      machine: {gpu: [RTX-4090], disk_gb: 72}
      volume: {name: v, size_gb: 10}
      steps: [{name: a, run: a, gpu: false}, {name: b, run: b, needs: [a]}]
    """
    desk = Desk(tmp_path, text)
    crews = {crew.crew: crew.offer for crew in desk.propose("all").preview.phases[0].crews}
    assert {name: offer.price_hour for name, offer in crews.items() if offer} == {
        "staging": Decimal("0.25000008"), "main": Decimal("0.75000008"),
    }  # fmt: skip
    assert desk.run("all").outcome == Outcome.SUCCEEDED
    rows = desk.bench.ledger().machines.all()
    assert sorted(row.price_hour for row in rows) == [Decimal("0.25000008"), Decimal("0.75000008")]


def test_what_a_create_asks_for_again_is_the_price_without_it(tmp_path: Path):
    """The row keeps the disk's part, so that a bid is for the card alone; a row of an older version has none."""
    desk = desk_of(tmp_path)
    desk.run("all")
    (row,) = desk.bench.ledger().machines.all()
    assert offer_of(row).disk_hour == Decimal("0.0069445")


def test_an_offer_that_an_older_version_recorded_is_read():
    """It has no disk, and what was rented for it accrues as it did."""
    old = {
        "provider": "runpod", "type_id": "t", "gpu": "RTX-4090", "gpus": 1, "memory_gb": 24, "price_hour": "0.74",
        "place": "EU-RO-1", "spot": False, "available": True, "private_network": True, "stock": "HIGH",
    }  # fmt: skip
    offer = read(Offer, old)
    assert (offer.price_hour, offer.disk_hour, offer.disk_gb_hour) == (Decimal("0.74"), 0, 0)
