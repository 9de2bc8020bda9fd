"""`setup`: once on every machine, before its first step, and its end is the phase's when it is a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.engine import setup
from orchestrator.engine.machines import Machines
from orchestrator.ledger.rows import MachineRow
from orchestrator.transport.code import Code
from orchestrator.words.errors import StepFailed
from orchestrator.words.model import Settings
from tests.unit.engine.stepbench import MACHINE, PHASE, Bench, There


def _bench(tmp_path: Path, command: str) -> Bench:
    bench = Bench(tmp_path)
    plan = bench.context.spec.plan.model_copy(update={"settings": Settings(code=".", setup=command)})
    bench.context.spec = bench.context.spec.model_copy(update={"plan": plan})
    code = tmp_path / "code"
    code.mkdir(exist_ok=True)
    (code / "make.sh").write_text("#!/bin/sh\necho made $1\n")
    bench.context.code = Code(code)
    return bench


def _set_up(bench: Bench) -> None:
    folder = bench.context.code.push(bench.agent, kept=setup.has_begun(bench.context, bench.agent))
    assert folder
    setup.run(bench.context, There(bench.context), PHASE, MACHINE, 0)


def test_it_runs_in_the_codes_folder_and_its_time_and_log_are_there(tmp_path: Path):
    """The command finds the code; what it says is in a log of its own, how long it took among the events."""
    bench = _bench(tmp_path, './make.sh "$GPUPLAN_CODE" && echo "$GPUPLAN_TOKEN." && touch built')
    _set_up(bench)
    folder = bench.home / ".gpuplan" / "code" / bench.context.code.hash
    log = bench.context.folder / "logs" / PHASE / "@setup.log"
    assert log.read_text() == f"made {folder}\n.\n"
    assert any("setup begins: ./make.sh" in text for text in bench.said())
    assert any("setup took" in text for text in bench.said())
    assert (folder / "built").exists()
    assert not list(bench.workspace.iterdir()), "nothing of it is on the volume"


def test_it_runs_once_on_a_machine(tmp_path: Path):
    """Asked again after a crash it is not run again, and what it made of the code stays."""
    bench = _bench(tmp_path, 'echo run >> "$HOME/runs"; touch built')
    _set_up(bench)
    _set_up(bench)
    assert (bench.home / "runs").read_text() == "run\n"
    assert (bench.home / ".gpuplan" / "code" / bench.context.code.hash / "built").exists()


def test_a_phase_that_takes_the_machine_over_has_it(tmp_path: Path):
    """The phase that asked for the machine has set it up."""
    bench = _bench(tmp_path, 'echo run >> "$HOME/runs"')
    row = bench.ledger.machines.get(name=MACHINE)
    bench.ledger.machines.put(MachineRow(**{f: getattr(row, f) for f in row.__slots__} | {"phase": "earlier"}))
    _set_up(bench)
    assert not (bench.home / "runs").exists()


def test_a_bad_end_says_why(tmp_path: Path):
    """Its last lines and its exit code are the failure's words."""
    bench = _bench(tmp_path, "echo no compiler here; exit 3")
    with pytest.raises(StepFailed, match=r"setup ended with exit code 3 on .*\nno compiler here") as told:
        _set_up(bench)
    assert "logs --step @setup" in told.value.remedy


def test_a_plan_without_one_starts_nothing(tmp_path: Path):
    """No command, no job."""
    bench = _bench(tmp_path, "")
    _set_up(bench)
    assert bench.agent.jobs() == []


def test_without_code_nothing_but_the_agent_goes_to_a_machine(tmp_path: Path):
    """A plan that names no code leaves the machine's own disk with the agent and its environment, the volume empty."""
    bench = Bench(tmp_path)
    bench.context.provider.rented = False
    Machines(bench.context).prepare(MACHINE)
    made = {path.name.partition("-")[0] for path in (bench.home / ".gpuplan").iterdir()}
    assert made == {"agent", "venv", "bootstrap.lock"}
    assert not (bench.home / ".gpuplan" / "venv" / "requirements").exists()
    assert not list(bench.workspace.iterdir())
