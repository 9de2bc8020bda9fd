"""Typed rows: what is put comes back as it was, of its own types."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.book import Book
from orchestrator.ledger.rows import ChargeRow, EventRow, FigureRow, MachineRow, RunRow
from orchestrator.words.errors import GpuplanError
from orchestrator.words.lifecycle import MachineState, Outcome, RunState
from tests.server import DATABASES

MACHINE = MachineRow(
    name="m", run="r", phase="p", request="1.0.0", node=1, provider="runpod", type_id="t", gpu="A100-80GB", gpus=2,
    place="EU", spot=True, price_hour=Decimal("1.19"), state=MachineState.CREATED, host="192.0.2.7", port=22,
    sent_at=7.5,
)  # fmt: skip


@pytest.fixture(params=DATABASES)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty one, at second 1000."""
    url = request.getfixturevalue("shared_database") if request.param else None
    with closing(open_ledger(tmp_path, url, now=lambda: 1000.0)) as made:
        yield made


def test_a_row_comes_back_as_it_was_put(ledger: Ledger):
    """Money as Decimal, states and outcomes of their kind, yes and no as bool, not yet as None."""
    run = RunRow(id="r", state=RunState.DONE, outcome=Outcome.OVER_BUDGET, settled=True, created_at=7.0)
    each: list[tuple[Book[Any], Any, dict[str, str]]] = [
        (ledger.machines, MACHINE, {"name": "m"}),
        (ledger.runs, run, {"id": "r"}),
    ]
    for book, row, key in each:
        book.put(row)
        assert book.get(**key) == row
    found = ledger.machines.get(name="m")
    assert (type(found.price_hour), found.spot, found.gone_at) == (Decimal, True, None)
    assert isinstance(ledger.runs.get(id="r").outcome, Outcome)


def test_changing_one_column_leaves_the_others(ledger: Ledger):
    """`change` says how many rows it met."""
    ledger.machines.put(MACHINE)
    assert ledger.machines.change({"name": "m"}, price_hour=Decimal("2.5"), spot=False) == 1
    assert ledger.machines.change({"name": "none"}, spot=True) == 0
    found = ledger.machines.get(name="m")
    assert (found.price_hour, found.spot, found.host) == (Decimal("2.5"), False, "192.0.2.7")


def test_rows_are_found_by_what_is_none_too(ledger: Ledger):
    """An open charge is one whose `until` is not yet."""
    for machine, until in [("m", None), ("n", 9.0)]:
        ledger.charges.put(ChargeRow(machine=machine, run="r", phase="p", since=1.0, until=until))
    assert [c.machine for c in ledger.charges.all(run="r", until=None)] == ["m"]
    assert ledger.charges.remove(machine="n") == 1
    assert len(ledger.charges.all()) == 1


def test_a_row_that_is_not_there_is_named(ledger: Ledger):
    """`get` raises with the table's name and the key, `maybe` is None."""
    with pytest.raises(GpuplanError, match=r"no machines \{'name': 'm'\}"):
        ledger.machines.get(name="m")
    assert ledger.machines.maybe(name="m") is None


def test_events_are_numbered_by_the_database(ledger: Ledger):
    """They come back in their order, at the ledger's time."""
    for text in ("first", "second"):
        ledger.event("r", text)
    assert [(e.text, e.at) for e in ledger.events.all(run="r")] == [("first", 1000.0), ("second", 1000.0)]
    ledger.events.put(EventRow(run="r", at=1.0, text="third"))
    assert len({e.id for e in ledger.events.all()}) == 3


def test_a_metric_keeps_its_figure(ledger: Ledger):
    """Floats come back to the last digit."""
    ledger.figures.put(FigureRow(run="r", step="p/s", node=0, name="tokens", value=11.300000000000001, at=1.0))
    assert ledger.figures.get(name="tokens").value == 11.300000000000001


def test_a_column_that_came_later_has_its_types_default(tmp_path: Path):
    """What an older version wrote is read: text "", numbers 0, no and not yet."""
    with sqlite3.connect(tmp_path / "gpuplan.db") as old:
        old.execute("create table gpuplan_runs (id text primary key, state text, created_at float)")
        old.execute("insert into gpuplan_runs values ('1101-aaaa', 'DONE', 7.0)")
    found = open_ledger(tmp_path).runs.get(id="1101-aaaa")
    assert found == RunRow(id="1101-aaaa", state=RunState.DONE, created_at=7.0)


def test_the_end_of_a_machine_closes_its_charge(ledger: Ledger):
    """Whatever state it was in, it is DESTROYED, and nobody pays for it from then on."""
    ledger.machines.put(MACHINE)
    ledger.charge("m", "r", "p", 10.0)
    ledger.gone("m", "reaped", MachineState.DESTROYED, 40.0)
    found = ledger.machines.get(name="m")
    assert (found.state, found.reason, found.gone_at) == (MachineState.DESTROYED, "reaped", 40.0)
    assert [c.until for c in ledger.charges.all(machine="m")] == [40.0]
