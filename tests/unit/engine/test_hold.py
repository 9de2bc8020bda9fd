"""`run --hold`: the machine of a step that failed is kept for a while, billed, and never beyond a limit."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import Bench
from orchestrator.testing.machine import Script
from orchestrator.words.lifecycle import Outcome
from tests.unit.engine.stories import Story

HALF_HOUR = 1800.0


def held(tmp_path: Path, story: str, budget: str = "", **scripts: Script) -> tuple[Bench, Outcome, float]:
    """That story with --hold 30m: its bench, its outcome, and for how long its last machine lived after the failure."""
    (tmp_path / "home").mkdir()
    told = Story.load(story, tmp_path / "plan")
    plan = told.plan
    if budget:
        limited = plan.phases[0].model_copy(update={"budget_usd": Decimal(budget)})
        plan = plan.model_copy(update={"phases": (limited, *plan.phases[1:])})
    world = replace(told.world, watched=True, scripts={**told.world.scripts, **scripts})
    bench = replace(told, plan=plan, world=world).bench(tmp_path / "home")
    bench.spec = bench.spec.model_copy(update={"hold_s": HALF_HOUR})
    outcome = bench.controller().run().outcome
    ledger = bench.ledger()
    failed = max((step.ended_at or 0 for step in ledger.steps.all() if step.state == "FAILED"), default=0.0)
    return bench, outcome, max(row.gone_at or 0 for row in ledger.machines.all()) - failed


def test_the_machine_of_a_failed_step_is_kept_for_so_long(tmp_path: Path):
    """Half an hour from the failure on; how to reach it, what it costs and what ends it is said; then it is gone."""
    bench, outcome, lived = held(tmp_path, "failure")
    assert outcome == Outcome.FAILED
    assert HALF_HOUR <= lived < HALF_HOUR + 120
    (said,) = [event.text for event in bench.ledger().events.all() if "is kept for" in event.text]
    assert f"gpuplan ssh {bench.spec.run} looks at it" in said
    assert "an hour" in said
    assert unsafe(bench) == []


def test_a_gpu_that_came_for_the_step_is_kept_too(tmp_path: Path):
    """In a staged phase it would end with its last step: it is what somebody wants to look at."""
    bench, outcome, _ = held(tmp_path, "staged", train=Script(seconds=60, exit=3))
    (gpu,) = [row for row in bench.ledger().machines.all() if row.gpus]
    (step,) = [row for row in bench.ledger().steps.all() if row.state == "FAILED"]
    assert outcome == Outcome.FAILED
    assert (gpu.gone_at or 0) - (step.ended_at or 0) >= HALF_HOUR
    assert unsafe(bench) == []


def test_a_budget_ends_it_before(tmp_path: Path):
    """Kept is paid for: the cap holds, and the run has failed all the same."""
    bench, outcome, lived = held(tmp_path, "failure", budget="0.15")
    assert outcome == Outcome.FAILED
    assert lived < HALF_HOUR / 2
    assert sum(map(Decimal, bench.clouds.invoice()["machines"].values())) <= Decimal("0.15")
    assert unsafe(bench) == []


def test_what_did_well_is_not_kept(tmp_path: Path):
    """Nothing failed: it ends at once."""
    bench, outcome, _ = held(tmp_path, "one-phase")
    assert outcome == Outcome.SUCCEEDED
    assert not [event for event in bench.ledger().events.all() if "is kept for" in event.text]
