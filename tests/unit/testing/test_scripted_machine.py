"""The scripted machine answers the agent's protocol as the real client asks it."""

from __future__ import annotations

import pytest

from orchestrator.testing.clock import ManualClock
from orchestrator.testing.files import Disk
from orchestrator.testing.machine import Script, ScriptedMachine
from orchestrator.transport.agent import Agent
from orchestrator.transport.job import Job
from orchestrator.transport.measured import Measured
from orchestrator.transport.refusals import LeaseHeld
from orchestrator.words.errors import ConnectionLost

MAKE = Script(seconds=60, output="making\n", creates={"out/a.txt": "hello"}, metrics={"speed": 3.5})


def _agent(clock: ManualClock, disk: Disk | None = None) -> tuple[Agent, ScriptedMachine]:
    machine = ScriptedMachine(clock, disk or Disk(), {"make": MAKE, "fail": Script(exits=(7,))}, gpus=("RTX 4090",))
    agent = Agent(machine, workspace="/elsewhere")
    agent.hello()
    return agent, machine


def _start(agent: Agent, job: str, command: str, timeout_s: float | None = None) -> None:
    agent.start(Job(id=job, command=command, cwd="/workspace", timeout_s=timeout_s))


def test_a_job_takes_its_time_and_leaves_its_files():
    """The file is there when the script's seconds are over, not before; log and figures come with the end."""
    clock, lines = ManualClock(), list[str]()
    agent, _ = _agent(clock)
    _start(agent, "j", "make")
    assert agent.files("/workspace", ["out/*"]) == []
    end = agent.follow("j", 0, lambda text, _offset: lines.append(text))
    assert end is not None
    assert (end.exit, end.figures, lines, clock.monotonic()) == (0, {"speed": Measured(3.5)}, ["making\n"], 60)
    assert [f.path for f in agent.files("/workspace", ["out/*"])] == ["out/a.txt"]


def test_starting_a_job_twice_runs_it_once():
    """A second start of the same id attaches to the first; another id is another try."""
    agent, machine = _agent(ManualClock())
    _start(agent, "j1", "fail")
    _start(agent, "j1", "fail")
    _start(agent, "j2", "fail")
    ends = [agent.follow(job, 0, lambda _text, _offset: None) for job in ("j1", "j2")]
    assert [end.exit for end in ends if end] == [7, 0]
    assert machine.disk.runs == ["fail", "fail"]


def test_a_time_out_and_a_stop_end_a_job():
    """The agent's own time-out ends a job as timed out, a stop as stopped; neither leaves its files."""
    clock = ManualClock()
    agent, machine = _agent(clock)
    _start(agent, "late", "make", timeout_s=5)
    end = agent.follow("late", 0, lambda _text, _offset: None)
    assert end is not None
    assert end.timed_out
    assert clock.monotonic() == 5
    _start(agent, "long", "make")
    assert agent.stop("long").stopped
    clock.pause(100)
    assert machine.disk.files == {}


def test_a_lease_has_one_holder_until_it_runs_out():
    """A second holder is refused while the first one's lease lasts, and gets it afterwards."""
    clock = ManualClock()
    agent, _ = _agent(clock)
    agent.lease("v", "one", 100)
    with pytest.raises(LeaseHeld):
        agent.lease("v", "two", 100)
    clock.pause(101)
    agent.lease("v", "two", 100)


def test_a_machine_that_ended_answers_nobody():
    """After its end every call is a lost connection, what ran leaves nothing, and a cut is one lost call."""
    clock, disk = ManualClock(), Disk()
    agent, machine = _agent(clock, disk)
    machine.cuts = 1
    with pytest.raises(ConnectionLost):
        machine.run("x", stdin=b'{"op": "hello"}')
    _start(agent, "j", "make")
    machine.end()
    clock.pause(100)
    with pytest.raises(ConnectionLost):
        agent.files("/workspace", ["**"])
    assert disk.files == {}
