"""The ledger by itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from orchestrator.ledger import open_ledger
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
