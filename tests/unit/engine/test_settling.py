"""A settled report is the provider's own bill, once that knows of all the time that the machines took."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator import cost
from orchestrator.engine import accounting
from orchestrator.engine.ending import Ending
from orchestrator.ledger.rows import ChargeRow, RunRow
from orchestrator.testing.bench import RUN
from orchestrator.words.lifecycle import MachineState, RunState
from orchestrator.words.provider import Capability
from tests.unit.engine.stepbench import MACHINE, PHASE
from tests.unit.engine.stepbench import RUN as ONE
from tests.unit.engine.stepbench import Bench as Steps
from tests.unit.engine.stories import Story


def accrued(ledger: Any, run: str, phase: str | None = None) -> Decimal:
    return cost.accrued(accounting.machine_charges(ledger, run, phase), accounting.moment(ledger.now()))


@pytest.mark.parametrize("story", ["one-phase", "reuse", "preempted"])
def test_a_settled_report_is_the_providers_bill(tmp_path: Path, story: str):
    """Whichever phases share it, to the digits that the invoice has; what was counted is just above it."""
    (tmp_path / "home").mkdir()
    bench = Story.load(story, tmp_path / "plan").bench(tmp_path / "home")
    bench.controller().run()
    ledger = bench.ledger()
    invoice = sum(map(Decimal, bench.clouds.invoice()["machines"].values()))
    assert ledger.runs.get(id=RUN).settled
    assert invoice > 0
    billed = sum((row.billed_usd or Decimal(0) for row in ledger.machines.all(run=RUN)), Decimal(0))
    assert abs(billed - invoice) < Decimal("2e-6")
    machines = ledger.machines.all(run=RUN)
    counted = cost.accrued(accounting.counted(ledger, RUN), accounting.moment(ledger.now()))
    assert billed - Decimal("2e-6") <= counted <= billed + sum((row.price_hour for row in machines), Decimal(0)) / 60
    parts = [accrued(ledger, RUN, phase.name) for phase in ledger.phases.all(run=RUN)]
    assert abs(accrued(ledger, RUN) - billed) < Decimal("1e-20")
    assert abs(sum(parts) - billed) < Decimal("1e-20")


@pytest.mark.parametrize(("bill", "settled"), [("2.82", True), ("2.80", False)])
def test_a_disks_bill_begins_when_its_machine_runs(tmp_path: Path, bill: str, *, settled: bool):
    """$2 for the machine's hour less a minute, $1 for its disk since it was reached less one, a month of 744 hours.

    That is $1.967 and 720/744 x $0.872: $2.811; a bill that is below it does not know all of the time.
    """
    bench = Steps(tmp_path)
    ledger, context = bench.ledger, bench.context
    ledger.runs.put(RunRow(id=ONE, state=RunState.RUNNING, created_at=1.0))
    price = {"price_hour": Decimal(3), "disk_hour": Decimal(1)}
    at = {"sent_at": 1000.0, "reachable_at": 1400.0, "gone_at": 4600.0}
    ledger.machines.change({"name": MACHINE}, state=MachineState.DESTROYED, provider_id="id", **price, **at)
    usd = {"id": Decimal(bill)}
    provider = SimpleNamespace(name="it", capabilities={Capability.BILLING}, billed=lambda _ids: usd)
    context.provider = cast("Any", provider)
    Ending(context, cast("Any", None), cast("Any", None)).settle()
    assert ledger.runs.get(id=ONE).settled is settled


@pytest.mark.parametrize(
    ("bill", "settled", "said"),
    [
        ({"id": "1.98"}, True, "1.98"),  # a minute less than an hour at $2: the vendor's own unit
        ({"id": "2.50"}, True, "2.50"),  # more than was counted is believed
        ({"id": "1.50"}, False, "2"),  # the last quarter of an hour is not in it yet
        ({}, False, "2"),
    ],
)
def test_a_bill_that_does_not_know_all_of_the_time_settles_nothing(
    tmp_path: Path, bill: dict[str, str], said: str, *, settled: bool
):
    """What was counted stays, and the report says that it may still change."""
    bench = Steps(tmp_path)
    ledger, context = bench.ledger, bench.context
    ledger.runs.put(RunRow(id=ONE, state=RunState.RUNNING, created_at=1.0))
    gone = {"state": MachineState.DESTROYED, "provider_id": "id", "price_hour": Decimal(2)}
    ledger.machines.change({"name": MACHINE}, sent_at=1000.0, gone_at=4600.0, **gone)
    ledger.charges.change({"machine": MACHINE}, since=1000.0, until=2800.0)
    ledger.charges.put(ChargeRow(machine=MACHINE, run=ONE, phase="next", since=2800.0, until=4600.0))
    usd = {name: Decimal(text) for name, text in bill.items()}
    provider = SimpleNamespace(name="it", capabilities={Capability.BILLING}, billed=lambda _ids: usd)
    context.provider = cast("Any", provider)
    Ending(context, cast("Any", None), cast("Any", None)).settle()
    assert ledger.runs.get(id=ONE).settled is settled
    assert ("so far" in "".join(bench.said())) is (bool(bill) and not settled)
    assert accrued(ledger, ONE).normalize() == Decimal(said).normalize()
    assert accrued(ledger, ONE, PHASE) == accrued(ledger, ONE) / 2
