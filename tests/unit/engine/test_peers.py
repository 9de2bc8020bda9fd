"""Nodes of a phase are ready when each has its private address and has reached the root over TCP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import Bench
from orchestrator.testing.machine import Script
from orchestrator.words.lifecycle import Outcome
from tests.unit.cli.desk import Desk
from tests.unit.engine.stories import Story


def two_nodes(tmp_path: Path, *faults: str) -> Bench:
    """The story of a root and a worker, with these disasters."""
    (tmp_path / "home").mkdir()
    told = Story.load("two-nodes", tmp_path / "plan")
    return replace(told, world=replace(told.world, faults=faults)).bench(tmp_path / "home")


def test_a_private_address_that_comes_late_is_waited_for(tmp_path: Path):
    """Twenty seconds after SSH answers: both nodes have different ones when the first step begins."""
    bench = two_nodes(tmp_path)
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    addresses = [row.private_ip for row in bench.ledger().machines.all()]
    assert len(set(addresses)) == 2
    assert "" not in addresses
    assert "127.0.0.1" not in addresses


def test_a_node_without_a_private_address_is_replaced_within_two_minutes(tmp_path: Path):
    """One that never gets one is given up after two minutes; the next machine takes its place."""
    bench = two_nodes(tmp_path, "private-address-never")
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    assert len(bench.creates()) == 3
    lived = {row.name: (row.gone_at or 0) - (row.reachable_at or 0) for row in bench.ledger().machines.all()}
    given_up = bench.creates()[:2]
    assert min(lived[name] for name in given_up) < 180
    assert unsafe(bench) == []


def test_two_nodes_without_a_private_address_end_the_search(tmp_path: Path):
    """Where nobody gets one the search ends after the root's second try, and says what was lacking."""
    bench = two_nodes(tmp_path, *["private-address-never"] * 2)
    assert bench.controller().run().outcome == Outcome.NO_MACHINE
    (phase,) = bench.ledger().phases.all()
    assert "had no private address within 2 min" in phase.error
    assert len(bench.creates()) == 2, "the root comes first"
    assert unsafe(bench) == []


def test_a_firewall_between_the_nodes_is_found_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Addresses alone prove nothing: a worker that does not reach the root over TCP is not ready."""
    bench = two_nodes(tmp_path)
    scripted = bench._scripted

    def alone(*args: object) -> object:
        machine = scripted(*args)  # type: ignore[arg-type]  # as the bench calls it
        machine.alone = True
        return machine

    monkeypatch.setattr(bench, "_scripted", alone)
    assert bench.controller().run().outcome == Outcome.NO_MACHINE
    (phase,) = bench.ledger().phases.all()
    assert "does not reach the root at 127.0.1." in phase.error
    assert bench.runs() == {}


def test_a_machine_without_a_private_address_is_not_taken_over_by_a_phase_that_needs_one(tmp_path: Path):
    """The first phase's machine was made without a private network: the second phase, of two nodes, makes its own."""
    plan = """
    one:
      machine: {gpu: [RTX-4090]}
      volume: {name: data, size_gb: 10}
      steps: [{name: s, run: s}]
    two:
      machine: {gpu: [RTX-4090], nodes: 2, reuse: one}
      volume: {name: data, size_gb: 10}
      steps:
        - {name: serve, run: serve, "on": workers, ready: {log: listening, timeout: 60s}}
        - {name: ask, run: ask, needs: [serve]}
    """
    desk = Desk(tmp_path, plan, scripts={"serve": Script(output="listening\n")})
    assert desk.run("all").outcome == Outcome.SUCCEEDED
    assert len(desk.bench.creates()) == 3
