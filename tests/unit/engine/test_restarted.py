"""A machine that its provider starts again: the same machine, another host key, nothing on its own disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import load_plan
from orchestrator.engine.machines import Machines
from orchestrator.ledger.rows import HostKeyRow
from orchestrator.testing.bench import Bench, BenchAgents, World
from orchestrator.testing.machine import Script
from orchestrator.words.errors import HostKeyChanged, ProviderUnavailable
from orchestrator.words.lifecycle import Outcome

PLAN = """
name: only
machine: {gpu: [RTX-4090]}
volume: {name: data, size_gb: 10}
steps:
  - {name: first, run: first, creates: [a]}
  - {name: second, run: second, needs: [first], creates: [b]}
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "plan").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "plan" / "only.yaml").write_text(PLAN)
    scripts = {"first": Script(creates={"a": "1"}), "second": Script(creates={"b": "2"})}
    return Bench(load_plan(tmp_path / "plan", environ={}), ("only",), World(scripts=scripts), tmp_path / "home")


def test_it_is_kept_and_what_ran_runs_again(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """While a step runs it shows another key: no other machine is rented, and the finished step is not repeated."""
    controller = bench.controller()
    provider, started = controller.context.provider, list[datetime]()
    view = provider.machine
    real = BenchAgents.__call__

    def call(agents: BenchAgents, machine: str) -> Any:
        if bench.runs()["second"] and not started:
            started.append(bench.clock.now() + timedelta(seconds=1))
            bench.clock.sleep(2)
            raise HostKeyChanged("another key")
        return real(agents, machine)

    def seen(machine_id: str) -> Any:
        found = view(machine_id)
        return replace(found, started=started[0]) if found and started else found

    monkeypatch.setattr(BenchAgents, "__call__", call)
    monkeypatch.setattr(provider, "machine", seen)
    assert controller.run().outcome == Outcome.SUCCEEDED
    assert len(bench.creates()) == 1
    assert bench.runs() == {"first": 1, "second": 2}
    events = [e.text for e in bench.ledger().newest_events(bench.spec.run, 50)]
    assert any("has restarted it: it shows another host key" in text for text in events)
    assert any("it is prepared anew" in text for text in events)


@pytest.mark.parametrize(("after", "answer"), [(60, True), (-60, False), (None, False)])
def test_only_a_start_since_the_first_contact_counts(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    after: float | None,
    answer: bool,  # noqa: FBT001
):
    """The key is forgotten then, and only then; a provider that says nothing of starts, or is silent, forgets none."""
    controller = bench.controller()
    controller.run()
    ledger, machines = controller.ledger, Machines(controller.context)
    (row,) = ledger.machines.all()
    ledger.host_keys.put(HostKeyRow(address=row.name, key="k"))
    since = None if after is None else datetime.fromtimestamp((row.reachable_at or 0) + after, UTC)
    view: Any = type("View", (), {"started": since, "address": None, "private_ip": None})()
    monkeypatch.setattr(controller.context.provider, "machine", lambda _id: view)
    assert machines.restarted(row.name) is answer
    assert (ledger.host_keys.maybe(address=row.name) is None) == answer

    def silent(_id: str) -> Any:
        raise ProviderUnavailable("503")

    monkeypatch.setattr(controller.context.provider, "machine", silent)
    assert machines.restarted(row.name) is None
