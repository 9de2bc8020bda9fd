"""A budget is what everything costs, its end included: refused before, bounded meanwhile, passed by no run alone."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.cli import confirming, driving
from orchestrator.engine import accounting
from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import Bench
from orchestrator.transport.code import Code
from orchestrator.words.errors import OverBudget
from orchestrator.words.lifecycle import Outcome
from tests.unit.cli.desk import Desk
from tests.unit.engine.stories import Story

ONE = "only: {LIMITS machine: {gpu: [RTX-4090]}, volume: {name: data, size_gb: 10}, steps: [{name: l, run: l}]}"


def bench_of(tmp_path: Path, *faults: str) -> Bench:
    """The story of a budget that is used up in the middle of a step."""
    (tmp_path / "home").mkdir()
    told = Story.load("budget", tmp_path / "plan")
    return replace(told, world=replace(told.world, faults=faults)).bench(tmp_path / "home")


def spent(bench: Bench) -> Decimal:
    """What the run cost, as gpuplan and as the cloud has it: the larger."""
    invoice = sum(map(Decimal, bench.clouds.invoice()["machines"].values()), Decimal(0))
    ledger = bench.ledger()
    return max(accounting.accrued(ledger, bench.spec.run, "only"), invoice)


def confirmed(desk: Desk) -> None:
    """What `gpuplan run all --yes` begins with."""
    options = driving.DriveOptions(yes=True, json=False, detach=False)
    code = Code(desk.folder / "no-code")
    confirming.agreed_on(desk._world(), desk._draft(("all",), {}), code, options, only=False, check=False)


def test_the_cap_is_not_passed_teardown_included(tmp_path: Path):
    """Ended so early that its end is paid for too; what was spent and kept is said."""
    bench = bench_of(tmp_path)
    end = bench.controller().run()
    (phase,) = bench.ledger().phases.all()
    assert (end.outcome, unsafe(bench)) == (Outcome.OVER_BUDGET, [])
    assert phase.error.endswith("more are needed to end what runs; the budget of only is $0.06")
    assert Decimal("0.02") < spent(bench) <= Decimal("0.06")


def test_a_provider_that_refuses_a_delete_is_said_with_the_rate(tmp_path: Path):
    """Only that passes the cap: what may still cost money is named with what it costs an hour."""
    bench = bench_of(tmp_path, "delete-refused@999")
    end = bench.controller().run()
    assert any("$0.75 an hour" in left for left in end.left)


def test_a_step_may_run_no_longer_than_the_budget_lasts(tmp_path: Path):
    """The machine gets a time-out that ends the step when the cap comes, should nobody be there to stop it."""
    bench = bench_of(tmp_path)
    bench.controller().run()
    (note,) = [event.text for event in bench.ledger().events.all() if "budget lasts" in event.text]
    assert note.startswith("only/long: its time-out is 120 min, the budget lasts for ")
    assert float(note.split(" lasts for ")[1].split()[0]) < Decimal("0.06") / Decimal("0.74") * 60


def test_a_machine_that_could_only_be_ended_is_not_asked_for(tmp_path: Path):
    """What is left of the budget does not last for its end: nothing is created."""
    (tmp_path / "home").mkdir()
    told = Story.load("budget", tmp_path / "plan")
    (phase,) = told.plan.phases
    plan = told.plan.model_copy(update={"phases": (phase.model_copy(update={"budget_usd": Decimal("0.02")}),)})
    bench = replace(told, plan=plan).bench(tmp_path / "home")
    assert bench.controller().run().outcome == Outcome.OVER_BUDGET
    assert bench.creates() == []


def test_the_dearest_machine_that_may_be_tried_must_fit(tmp_path: Path):
    """An estimate within the budget, and a machine that may be taken instead above it: refused, with what to do."""
    desk = Desk(tmp_path, ONE.replace("LIMITS", "budget_usd: 1.5,"))
    with pytest.raises(OverBudget, match=r"estimated \$0\.7\d, \$\d+\.\d\d on the dearest machines") as refused:
        confirmed(desk)
    assert "max_usd_hour" in refused.value.remedy


def test_max_usd_hour_leaves_dear_machines_out(tmp_path: Path):
    """With a bound on the price the same budget does."""
    confirmed(Desk(tmp_path, ONE.replace("LIMITS", "budget_usd: 1.5, max_usd_hour: 1,")))
