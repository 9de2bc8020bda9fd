"""A process that dies between the note that a create is sent and the create: nobody refused that candidate."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.ledger.rows import MachineRow
from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import Bench
from orchestrator.words.lifecycle import MachineState, Outcome
from tests.faults.processes import Process
from tests.unit.engine.stories import Story


def killed(bench: Bench, state: MachineState, *, beside: int = 0) -> None:
    """Drive the run until its newest machine is sent for, in that state, and is one more than `beside`; it dies there.

    It does so when the ledger has it, and before anything else has happened.
    """
    ledger, process = bench.ledger(), Process(bench.clock, "run", bench.controller().run)

    def changed(where: str) -> None:
        rows = ledger.machines.all() if where.startswith("ledger:") and bench.clock.life is process.life else []
        if len(rows) > beside and rows[-1].sent_at and rows[-1].state == state:
            process.kill()

    bench.watchers.changed = changed
    process.wait(86400.0)
    bench.watchers.changed = lambda _where: None
    assert process.killed


def bench_of(story: str, folder: Path) -> Bench:
    (folder / "home").mkdir()
    return Story.load(story, folder / "plan").bench(folder / "home")


def machines(bench: Bench) -> list[MachineRow]:
    return bench.ledger().machines.all()


@pytest.mark.parametrize("story", ["one-phase", "lambda", "ssh-host", "spot"])
def test_the_same_candidate_is_asked_again(story: str, tmp_path: Path):
    """Once it is sure that nothing of that name came to be: under another name, and it is the only machine."""
    bench = bench_of(story, tmp_path)
    killed(bench, MachineState.REQUESTED)
    assert bench.creates() == []
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    first, second = machines(bench)
    assert (first.state, first.reason) == (MachineState.LOST, "never appeared: its create was cut short")
    assert (second.type_id, second.place, second.spot) == (first.type_id, first.place, first.spot)
    assert bench.creates() == ([] if story == "ssh-host" else [second.name])
    assert unsafe(bench) == []


def test_so_it_is_after_another_death(tmp_path: Path):
    """The next process dies as soon as that is sure, the one after it before its own create: the fourth one rents."""
    bench = bench_of("one-phase", tmp_path)
    killed(bench, MachineState.REQUESTED)
    killed(bench, MachineState.LOST)
    killed(bench, MachineState.REQUESTED, beside=1)
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    rows = machines(bench)
    assert len({(row.type_id, row.place) for row in rows}) == 1
    assert bench.creates() == [rows[2].name]
    assert unsafe(bench) == []


def test_what_came_to_be_is_no_second_one(tmp_path: Path):
    """A machine that is found under its name is taken, however the process died that had sent for it."""
    bench = bench_of("one-phase", tmp_path)
    process = Process(bench.clock, "run", bench.controller().run)
    bench.watchers.changed = lambda where: process.kill() if where == "POST pods" else None
    process.wait(86400.0)
    bench.watchers.changed = lambda _where: None
    assert process.killed
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    assert (len(bench.creates()), len(machines(bench))) == (1, 1)
    assert unsafe(bench) == []
