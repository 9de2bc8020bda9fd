"""The ledger by itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from orchestrator.ledger import open_ledger
from orchestrator.ledger.rows import DeliverableRow
from orchestrator.words.lifecycle import RunState


def test_a_ledger_of_an_older_version_gets_the_columns_that_came_later(tmp_path: Path):
    """What is there stays, new columns have their defaults, and opening it once more changes nothing."""
    with sqlite3.connect(tmp_path / "gpuplan.db") as old:
        old.execute("create table gpuplan_runs (id text primary key, state text, created_at float)")
        old.execute("insert into gpuplan_runs values ('1101-aaaa', 'DONE', 7.0)")
    for _ in range(2):
        ledger = open_ledger(tmp_path)
        row = ledger.runs.get(id="1101-aaaa")
        ledger.close()
    assert (row.state, row.created_at) == (RunState.DONE, 7.0)
    assert (row.version, row.settled, row.outcome) == ("", False, None)


def test_a_ledger_of_an_older_version_takes_an_answer_that_is_neither_yes_nor_no(tmp_path: Path):
    """Answers of before stay; the column that had to say yes or no may then say nothing, in every process."""
    with sqlite3.connect(tmp_path / "gpuplan.db") as old:
        columns = "run text not null, phase text not null, name text not null, position integer not null"
        key = "primary key (run, phase, name)"
        old.execute(f"create table gpuplan_deliverables ({columns}, ok integer not null, detail text not null, {key})")
        old.execute("insert into gpuplan_deliverables values ('r', 'p', 'old', 0, 0, 'no file')")
    for name in ("new", "newer"):
        ledger = open_ledger(tmp_path)
        ledger.deliverables.put(DeliverableRow(run="r", phase="p", name=name, position=1, ok=None, detail="no GPU"))
        assert ("new", None) in [(row.name, row.ok) for row in ledger.deliverables.all(ok=None)]
        assert ledger.deliverables.get(name="old") == DeliverableRow(
            run="r", phase="p", name="old", ok=False, detail="no file"
        )
        ledger.close()
