"""One run at a time works on a volume: its lease is taken, waited for, and given back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.engine import setup
from orchestrator.engine.phase import PhaseWork
from orchestrator.engine.provisioning import Provisioning
from orchestrator.ledger.rows import RunRow
from orchestrator.plan.crews import Crew, Name
from orchestrator.transport.refusals import AgentFailed, LeaseHeld
from orchestrator.words.lifecycle import RunState
from orchestrator.words.model import VolumeNeed
from tests.unit.engine.stepbench import MACHINE, PHASE, RUN, Bench, There

OTHER = "1101-aaaa"


class Agent:
    """A machine with the volume, whose lease `holder` has; `calls` is what was asked of it."""

    def __init__(self, holder: str = "", *, broken: bool = False) -> None:
        self.holder, self.broken, self.calls = holder, broken, list[tuple[str, str]]()

    def __call__(self, machine: str) -> Agent:
        assert machine == MACHINE
        return self

    def let_go(self, machine: str) -> None:
        self.calls.append(("let go", machine))

    def lease(self, name: str, holder: str, ttl_s: float, action: str = "acquire") -> None:
        self.calls.append((action, holder))
        if self.broken:
            raise AgentFailed("broken", "disk full")
        if self.holder not in ("", holder):
            held = LeaseHeld("held", "somebody has it")
            held.holder = self.holder
            raise held
        self.holder = holder if action == "acquire" else ""

    def await_lease(self, name: str, holder: str, ttl_s: float) -> None:
        self.calls.append(("await", holder))
        self.holder = holder


def bench_with(tmp_path: Path, agent: Agent) -> Bench:
    bench = Bench(tmp_path, volume=VolumeNeed(name="data", size_gb=10))
    bench.context.agents = cast("Any", agent)
    return bench


def taken(bench: Bench) -> None:
    Provisioning(bench.context, There(bench.context), cast("Any", None))._lease(MACHINE, "data")


def test_what_an_ended_run_of_ours_left_is_taken_at_once(tmp_path: Path):
    """Its ledger says that it is done: nobody renews it."""
    agent = Agent(OTHER)
    bench = bench_with(tmp_path, agent)
    bench.ledger.runs.put(RunRow(id=OTHER, state=RunState.DONE, created_at=1.0))
    taken(bench)
    assert agent.calls == [("acquire", RUN), ("release", OTHER), ("acquire", RUN)]
    assert (agent.holder, bench.said()) == (RUN, [])


@pytest.mark.parametrize("state", [None, RunState.RUNNING, RunState.TEARING_DOWN])
def test_what_may_be_anothers_is_waited_for(tmp_path: Path, state: RunState | None):
    """A run that nobody here knows, or that has not ended, keeps it for as long as it renews it; that is said."""
    agent = Agent(OTHER)
    bench = bench_with(tmp_path, agent)
    if state:
        bench.ledger.runs.put(RunRow(id=OTHER, state=state, created_at=1.0))
    taken(bench)
    assert agent.calls == [("acquire", RUN), ("await", RUN)]
    assert bench.said() == [f"data is held by {OTHER}: taken if it is not renewed for 180 s"]


def test_it_is_given_back_at_the_end_of_the_phase(tmp_path: Path):
    """It is renewed no more, then released: the next run takes it at once."""
    agent = Agent(RUN)
    bench = bench_with(tmp_path, agent)
    PhaseWork(bench.context, There(bench.context), cast("Any", None))._release(PHASE)
    assert agent.calls == [("let go", MACHINE), ("release", RUN)]
    assert (agent.holder, bench.said()) == ("", [])


def test_a_lease_that_cannot_be_given_back_runs_out(tmp_path: Path):
    """The machine does not answer well: that is said, and keeps nothing alive."""
    bench = bench_with(tmp_path, Agent(RUN, broken=True))
    PhaseWork(bench.context, There(bench.context), cast("Any", None))._release(PHASE)
    (said,) = bench.said()
    assert said.startswith(f"{PHASE}: the lease on data runs out by itself: ")


def test_a_phase_without_a_volume_has_no_lease(tmp_path: Path):
    """Nothing is asked of its machine."""
    agent, bench = Agent(), Bench(tmp_path)
    bench.context.agents = cast("Any", agent)
    PhaseWork(bench.context, There(bench.context), cast("Any", None))._release(PHASE)
    assert agent.calls == []


@pytest.mark.parametrize("first", [True, False])
def test_the_first_crew_takes_the_lease_once_its_machines_are_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, first: bool
):
    """Each machine that comes with it is prepared before; a crew that comes later finds it taken."""
    agent, told = Agent(), list[str]()
    bench = bench_with(tmp_path, agent)
    monkeypatch.setattr(setup, "run", lambda *_: told.append("set up"))
    machines = SimpleNamespace(reaching=lambda _name, body: body(), prepare=told.append)
    (crew,) = bench.context.crews(PHASE)
    if not first:
        other = Crew(crew.name, crew.need, crew.nodes, crew.steps)
        staging = Crew(Name.STAGING, crew.need, crew.nodes, ())
        monkeypatch.setattr(type(bench.context), "crews", lambda _self, _phase: (staging, other))
        monkeypatch.setattr(type(bench.context), "of_crew", lambda self, phase, _crew: self.machines(phase))
    made = Provisioning(bench.context, cast("Any", machines), cast("Any", None))
    assert made.prepare(PHASE, crew) == ""
    assert told == [MACHINE, "set up"]
    assert agent.calls == ([("acquire", RUN)] if first else [])


def test_without_a_machine_there_is_nobody_to_give_it_back(tmp_path: Path):
    """It was lost: its lease runs out by itself."""
    agent = Agent(RUN)
    bench = bench_with(tmp_path, agent)
    bench.ledger.charges.change({"machine": MACHINE}, until=2.0)
    PhaseWork(bench.context, There(bench.context), cast("Any", None))._release(PHASE)
    assert (agent.calls, bench.said()) == ([], [])
