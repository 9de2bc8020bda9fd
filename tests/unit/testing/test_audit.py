"""The audit says no where something is wrong: each of its questions is asked of a world in which it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.engine.creation import offer_of
from orchestrator.engine.names import MachineName
from orchestrator.testing import audit
from orchestrator.testing.bench import RUN, Bench
from orchestrator.words.errors import ProviderUnavailable
from orchestrator.words.provider import MachineSpec
from tests.faults.cells import told

HOUR_S = 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A run that has ended well."""
    story = told("lambda")
    bench = replace(story, world=replace(story.world, provider="runpod", place="EU-RO-1")).bench(tmp_path)
    bench.controller().run()
    assert audit.unsafe(bench) == []
    yield bench
    bench.clouds.close()


def test_what_is_left_made_twice_and_never_paid_is_seen(bench: Bench):
    """A second machine of the same name, that no ledger knows the life of: left, twice, crowded and billed."""
    provider, row = bench.controller().context.provider, bench.ledger().machines.all()[0]
    image = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
    provider.create(MachineSpec(row.name, offer_of(row), image, 50, ("22/tcp",), "k", bench.clock.now()))
    bench.clock.pause(HOUR_S)
    wrong = audit.unsafe(bench)
    assert f"machine left: {row.name}" in wrong
    assert f"created twice: {row.name}" in wrong
    assert any("is billed" in text for text in wrong)
    assert audit.leaks(bench, RUN) == [f"machine left: {row.name}"]
    assert audit.leaks(bench, "1102-none") == []


@pytest.mark.parametrize(("asked", "crowded"), [(False, 1), (True, 0)])
def test_a_machine_whose_end_was_asked_for_is_in_nobodys_way(bench: Bench, *, asked: bool, crowded: int):
    """Also where the provider refused it: another one may take its place. Beside one that nobody ends it may not."""
    provider, row = bench.controller().context.provider, bench.ledger().machines.all()[0]
    name = MachineName.parse(row.name)
    assert name
    image = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
    for number in (2, 3):
        new = str(replace(name, number=number))
        made = provider.create(MachineSpec(new, offer_of(row), image, 50, ("22/tcp",), "k", bench.clock.now()))
        bench.clock.pause(60)
        if asked:
            bench.clouds.fault("delete-refused")
            with pytest.raises(ProviderUnavailable):
                provider.destroy(made)
    assert len(audit.crowded(bench)) == crowded


def test_a_bill_that_was_read_wrongly_is_seen(bench: Bench):
    """What the run says that the provider has billed is compared with the invoice, to the cent."""
    ledger = bench.ledger()
    assert audit.settled(bench, ledger, RUN) == []
    ledger.event(RUN, "runpod has billed $9.0000 for 1 machine")
    assert "is settled at $9.0000" in audit.settled(bench, ledger, RUN)[0]


def test_a_machine_that_accrued_too_much_is_seen(bench: Bench):
    """A minute more than the bill is more than a billing unit, unless its provider listed it for that long."""
    ledger = bench.ledger()
    assert audit.overpaid(bench) == []
    row, charge = ledger.machines.all()[0], ledger.charges.all()[0]
    ledger.charges.change({"machine": charge.machine}, until=(charge.until or 0) + 60)
    assert audit.overpaid(bench)[0].startswith(f"{row.name} accrued")
    assert audit.overpaid(bench, 60.0) == []


def test_a_disk_that_did_not_accrue_is_seen(bench: Bench):
    """A day of a machine that is on the books without its disk is billed more than has accrued."""
    provider, row = bench.controller().context.provider, bench.ledger().machines.all()[0]
    image = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
    provider.create(MachineSpec(row.name, offer_of(row), image, 50, ("22/tcp",), "k", bench.clock.now()))
    bench.clock.pause(24 * HOUR_S)
    ledger = bench.ledger()
    ledger.charges.change({"machine": row.name}, until=None)
    assert audit.unpaid(bench, [ledger]) == []
    ledger.machines.change({"name": row.name}, price_hour=row.price_hour - row.disk_hour)
    assert audit.unpaid(bench, [ledger])[0].startswith(f"{row.name} is billed")


def test_seconds_beyond_the_budget_count_while_somebody_drives(bench: Bench):
    """Half of the machine's cost was too much: the rest of its time is late, but only within the driven stretch."""
    (spans,) = bench.clouds.bills().values()
    begin, seconds = 0.0, ((spans[0].end or bench.clock.now()) - spans[0].start).total_seconds()
    usd = spans[0].price_hour * Decimal(seconds) / 3600
    late = audit.driven_beyond(bench, bench.spec, usd / 2, [(begin, begin + 10 * HOUR_S)])
    assert late == pytest.approx(seconds / 2, abs=1)
    assert audit.driven_beyond(bench, bench.spec, usd / 2, [(begin + 5 * HOUR_S, begin + 6 * HOUR_S)]) == 0


def test_a_volume_that_nobody_keeps_is_seen(bench: Bench):
    """One that the ledger knows is kept; one that it has as ended is left."""
    assert audit.volumes_left(bench) == []
    ledger = bench.ledger()
    (row,) = ledger.volumes.all()
    ledger.volumes.remove(name=row.name)
    assert audit.volumes_left(bench) == [f"volume left: {row.name}"]


def test_a_step_that_ran_again_is_seen_unless_its_record_was_unknown(bench: Bench):
    """A done-record that was there when its step began; where the ledger did not know it, this was said."""
    context = bench.controller().context
    agent_disk = next(iter(bench._disks.values()))
    agent_disk.repeated.append("only.work")
    assert audit.repeated(bench, [bench.ledger()]) == ["only.work ran again 1 times"]
    context.event("only/work: run x recorded it, unknown to this ledger: run again")
    assert audit.repeated(bench, [bench.ledger()]) == []
