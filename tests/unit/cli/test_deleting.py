"""Deleting a volume: what goes with it is said, somebody agrees, and what another run holds stays."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.cli import deleting
from orchestrator.ledger.rows import ClaimRow, RunRow
from orchestrator.testing.machine import Script
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import RunState
from tests.unit.cli.desk import Desk

PLAN = """
one:
  machine: {gpu: [RTX-4090]}
  volume: {name: data, size_gb: 10}
  steps: [{name: make, run: make, creates: [one.txt], expect: 1800}]
two:
  machine: {gpu: [RTX-4090]}
  volume: {name: more, size_gb: 20}
  steps: [{name: use, run: use}]
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A run that has made one volume with a step's result on it."""
    made = Desk(tmp_path, PLAN, scripts={"make": Script(creates={"one.txt": "1"})})
    made.run("one")
    return made


def test_what_goes_is_said_before_it_goes(desk: Desk, capsys: pytest.CaptureFixture[str]):
    """Name, size, place, dollars a day, the steps on it, and what they cost to make again (boot and step)."""
    ledger, spec = desk.bench.ledger(), desk.bench.spec
    rows = deleting.doomed(ledger, spec)
    assert deleting.agreed(ledger, spec, rows, yes=True, json=False) == [row.name for row in rows]
    said = capsys.readouterr().out
    (row,) = rows
    assert f"volume {row.name}: 10 GB at runpod in {row.place}, $0.02333 a day\n" in said
    assert "on it: one/make\n" in said
    (machine,) = ledger.machines.all()
    assert f"to make that again takes about 1.5h and ${machine.price_hour * 3 / 2:.2f}" in said


def test_nobody_to_ask_is_no_yes(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Without a terminal and without --yes nothing is agreed to; with --json the words are no part of the document."""
    ledger, spec = desk.bench.ledger(), desk.bench.spec
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert deleting.agreed(ledger, spec, deleting.doomed(ledger, spec), yes=False, json=True) is None
    assert capsys.readouterr().out == ""
    assert deleting.agreed(ledger, spec, [], yes=False, json=True) == []


@pytest.mark.parametrize("volume", ["data", "more"])
def test_what_another_run_holds_is_refused(desk: Desk, volume: str):
    """Any volume of the plan, also one that this run never asked for: the run that holds it is named."""
    ledger, spec = desk.bench.ledger(), desk.bench.spec
    desk.run("two")
    need = next(p.volume for p in spec.plan.phases if p.volume and p.volume.name == volume)
    ledger.runs.put(RunRow(id="1102-othr", state=RunState.RUNNING, created_at=1.0))
    ledger.claims.put(ClaimRow(world=spec.cloud_or_host, label=spec.label(need), run="1102-othr"))
    with pytest.raises(UsageError, match="1102-othr has not ended, and works on gpuplan-") as caught:
        deleting.doomed(ledger, spec)
    assert "gpuplan down 1102-othr" in caught.value.remedy
    ledger.runs.move({"id": "1102-othr"}, RunState.TEARING_DOWN)
    ledger.runs.move({"id": "1102-othr"}, RunState.DONE)
    assert len(deleting.doomed(ledger, spec)) == 2
