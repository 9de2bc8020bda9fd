"""What the provider says of its prices is believed over ours: tiers of volumes, machines, interruptible ones."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from orchestrator import cost
from orchestrator.engine import accounting
from orchestrator.engine.effects import RunEnd
from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import RUN, Bench
from orchestrator.testing.explore import Explorer
from orchestrator.words.lifecycle import Outcome
from tests.unit.engine.stories import Story


def played(tmp_path: Path, story: str, *faults: str, most: Decimal | None = None) -> Bench:
    """That story where these disasters come, to be told; `most`: what its phase may pay an hour."""
    (tmp_path / "home").mkdir()
    told = Story.load(story, tmp_path / "plan")
    phases = tuple(phase.model_copy(update={"max_usd_hour": most}) for phase in told.plan.phases)
    told = replace(told, plan=told.plan.model_copy(update={"phases": phases}))
    return replace(told, world=replace(told.world, faults=faults)).bench(tmp_path / "home")


def ran(tmp_path: Path, story: str, *faults: str, most: Decimal | None = None) -> tuple[Bench, RunEnd]:
    """The same, and its end."""
    bench = played(tmp_path, story, *faults, most=most)
    return bench, bench.controller().run()


def said(bench: Bench) -> str:
    """All events."""
    return "\n".join(event.text for event in bench.ledger().events.all(run=RUN))


def test_the_ordinary_tier_of_a_volume_is_asked_for(tmp_path: Path):
    """Left out, the data centre takes the dearer one: the volume's invoice is that of the ordinary tier."""
    bench, _ = ran(tmp_path, "failure")
    (row,) = bench.ledger().volumes.all()
    (made,) = bench.clouds.invoice()["volumes"].values()
    hours = Decimal(str(bench.clock.now().timestamp() - (row.accepted_at or 0))) / 3600
    assert Decimal(made) <= Decimal(10) * Decimal("0.07") / cost.HOURS_A_MONTH * hours + Decimal("0.00001")
    assert "dearer tier" not in said(bench)


def test_a_dearer_tier_is_read_back_said_and_charged(tmp_path: Path):
    """A volume that is of the dearer tier all the same costs what it costs; `doctor --live` has asked for none."""
    bench, _ = ran(tmp_path, "failure", "volume-dear")
    assert "it is of the dearer tier HIGH_PERFORMANCE" in said(bench)
    assert "asked for" not in said(bench)
    (row,) = bench.ledger().volumes.all()
    assert row.price_hour == Decimal(10) * Decimal("0.14") / cost.HOURS_A_MONTH


def test_a_machine_that_costs_more_than_was_offered_is_charged_so(tmp_path: Path):
    """A quarter more, its disk apart: said, and accrued from its first second."""
    bench, end = ran(tmp_path, "one-phase", "price-higher")
    assert end.outcome == Outcome.SUCCEEDED
    assert "costs $0.9319 an hour, not $0.7469 as was offered" in said(bench)
    assert unsafe(bench) == []
    invoice = sum(map(Decimal, bench.clouds.invoice()["machines"].values()))
    charges = accounting.counted(bench.ledger(), RUN)
    assert invoice <= cost.accrued(charges, bench.clock.now()) <= invoice * Decimal("1.05")


def test_a_dearer_machine_is_charged_so_whenever_its_process_dies(tmp_path: Path):
    """Killed before or after any effect and taken down half an hour later: what was accrued covers the invoice."""

    def down(bench: Bench) -> list[str]:
        bench.clock.sleep(1800)
        return bench.controller().down() + unsafe(bench)

    bench = played(tmp_path, "one-phase", "price-higher")
    explorer = Explorer(bench, {"down": down}, tmp_path / "deaths")
    explorer.run()
    assert [death for death in explorer.deaths if death.wrong] == []
    assert len(explorer.deaths) > 20


def test_a_machine_that_costs_more_than_the_phase_may_pay_is_ended(tmp_path: Path):
    """Above max_usd_hour it is ended before anything runs, and another one is tried."""
    bench, end = ran(tmp_path, "one-phase", "price-higher", most=Decimal("0.80"))
    assert end.outcome == Outcome.NO_MACHINE
    (phase,) = bench.ledger().phases.all()
    assert "more than only may pay ($0.80)" in phase.error
    assert bench.runs() == {}


def test_a_machine_that_costs_too_much_serves_nobody_whenever_its_process_dies(tmp_path: Path):
    """Killed after any change, also after its price was written down: nothing runs there after `resume`."""

    def resume(bench: Bench) -> list[str]:
        bench.controller().run()
        return [f"{command} ran {times} times" for command, times in bench.runs().items()] + unsafe(bench)

    bench = played(tmp_path, "one-phase", "price-higher", most=Decimal("0.80"))
    explorer = Explorer(bench, {"resume": resume}, tmp_path / "deaths", changes=True)
    explorer.run()
    assert [death for death in explorer.deaths if death.wrong] == []
    assert len(explorer.deaths) > 20


def test_a_cpu_machine_is_of_the_crew_that_has_no_gpu(tmp_path: Path):
    """What a phase's machine may cost, and whom it meets, is asked of its own crew."""
    bench = played(tmp_path, "staged")
    context = bench.controller().context
    phase = min(context.spec.staged)
    assert [context.crew_of(phase, gpus=gpus).name for gpus in (0, 1)] == ["staging", "main"]


def test_spot_that_no_type_is_sold_as_is_said_so_and_leaves_no_volume(tmp_path: Path):
    """Bids are listed and every create is refused: the remedy says it, and nothing is kept."""
    bench, end = ran(tmp_path, "spot", "spot-gone@99")
    assert (end.outcome, bench.creates(), bench.clouds.volumes_left()) == (Outcome.NO_MACHINE, [], [])
    (phase,) = bench.ledger().phases.all()
    assert "none is sold any more" in phase.error
