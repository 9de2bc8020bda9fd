"""A machine that its provider calls healthy, and that never answers again."""

from __future__ import annotations

from pathlib import Path

from orchestrator.testing.audit import unsafe
from orchestrator.words.lifecycle import Outcome
from tests.unit.engine.stories import Story


def test_a_silent_machine_is_ended_and_replaced(tmp_path: Path):
    """A quarter of an hour after its last answer another machine does the work; the silent one is gone."""
    (tmp_path / "home").mkdir()
    bench = Story.load("one-phase", tmp_path / "plan").bench(tmp_path / "home")
    begun, silenced = bench.clouds.step_started, list[str]()

    def then_silence(step: str, machine: str) -> None:
        begun(step, machine)
        if not silenced:
            silenced.append(machine)
            next(iter(bench.machines.values())).cuts = 10**9

    bench.clouds.step_started = then_silence  # type: ignore[method-assign]  # the disaster comes in the middle
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    first, second = bench.ledger().machines.all()
    assert first.reason == "it has not answered for 15 min, though its provider says that it runs"
    assert 900 < (first.gone_at or 0) - (first.reachable_at or 0) < 1200
    assert second.reachable_at
    assert unsafe(bench) == []
