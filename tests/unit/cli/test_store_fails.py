"""A store that fails is no missing machine: exit code 3, with the store and the object."""

from __future__ import annotations

from pathlib import Path

from orchestrator.testing.machine import Script
from orchestrator.words.errors import ExitCode, StoreBusy, StoreUnavailable
from orchestrator.words.lifecycle import Outcome
from tests.unit.cli.desk import Desk

PLAN = """
one:
  machine: {gpu: [RTX-4090]}
  volume: {name: data, size_gb: 10}
  steps: [{name: make, run: make, creates: [out/one.txt]}]
  artifacts: [out/*]
"""


def test_a_store_that_fails_for_good_fails_the_phase(tmp_path: Path):
    """No part is ever stored: outcome failed (exit 3), store, object and what sends the rest; the machine is ended."""
    desk = Desk(tmp_path, PLAN, scripts={"make": Script(creates={"out/one.txt": "1"})}, stores=1)
    desk.bench.stores[0].refusals = [500] * 1000
    assert desk.run("one").outcome == Outcome.FAILED
    ledger, run = desk.bench.ledger(), desk.bench.spec.run
    (phase,) = ledger.phases.all(run=run)
    assert "memory://store0: out/one.txt: no part arrived: HTTP 500" in phase.error
    assert f"gpuplan resume {run} sends the rest" in phase.error
    assert desk.bench.clouds.machines_left() == []


def test_before_anything_is_rented_it_is_exit_3_too():
    """The store that the preview tries: what it raises is never the code of a missing machine."""
    assert {StoreUnavailable("x").exit_code, StoreBusy("x").exit_code} == {ExitCode.FAILED}
