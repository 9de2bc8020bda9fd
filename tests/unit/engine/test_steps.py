"""The story of one step, with the real agent on this computer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.engine import inputs, records
from orchestrator.engine.board import Board
from orchestrator.engine.effects import Attempt
from orchestrator.engine.step_log import StepLog
from orchestrator.engine.step_work import StepWork
from orchestrator.ledger.rows import RecordRow
from orchestrator.transport.job import Job
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Ready, Step
from tests.unit.engine.stepbench import MACHINE, PHASE, RUN, Bench, There

MAKE = Step(name="make", run="echo made | tee out.txt; echo run >> runs", creates=("out.txt",))


def test_a_step_is_done_once(tmp_path: Path):
    """A step whose record holds is up to date; when a file of it has another size, it runs again."""
    bench = Bench(tmp_path, MAKE)
    assert bench.run("make").state == StepState.DONE
    assert bench.recorder.names == ["needs", "up-to-date", "machine", "room", "run-1", "verify", "end"]
    assert Bench(tmp_path, MAKE).run("make").state == StepState.UP_TO_DATE
    (bench.workspace / "out.txt").write_text("longer than it was\n")
    assert Bench(tmp_path, MAKE).run("make", attempt=2).state == StepState.DONE
    assert (bench.workspace / "runs").read_text() == "run\nrun\n"


def test_what_runs_again_is_not_known_as_done_meanwhile(tmp_path: Path):
    """The ledger forgets a record as its step begins: whatever becomes of this try, the earlier one counts no more."""
    bench = Bench(tmp_path, Step(name="make", run="false", creates=("out.txt",)))
    key = min(bench.context.accepted["only/make"])
    bench.ledger.records.put(RecordRow(volume="data", step="only/make", key=key, at=1.0))
    bench.ledger.records.put(RecordRow(volume="data", step="only/other", key=key, at=1.0))
    assert bench.run("make").state == StepState.FAILED
    assert [row.step for row in bench.ledger.records.all()] == ["only/other"]


def test_what_was_fetched_is_said_in_the_log_of_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In that of the first node, which everybody looks into."""
    fetching = SimpleNamespace(run=lambda _agent: None, moved=7, said="fetched 1 files, 7 bytes; 0 files were there")
    monkeypatch.setattr(inputs, "Fetching", lambda *_: fetching)
    bench = Bench(tmp_path, Step(name="inputs", run="", builtin="inputs"))
    work = StepWork(bench.context, There(bench.context), Board(bench.context, PHASE), PHASE, "only/inputs", 1)
    assert work._fetch(MACHINE, ".gpuplan/done/nothing.json").succeeded
    assert StepLog(bench.context, PHASE, "only/inputs").path.read_text() == f"[gpuplan: {fetching.said}]\n"


@pytest.mark.parametrize("retries", [0, 1])
def test_a_job_whose_supervisor_is_killed_runs_again_a_bounded_number_of_times(tmp_path: Path, retries: int):
    """Each is said; after two such ends for nothing they cost the step's retries, and then it has failed."""
    bench = Bench(tmp_path, Step(name="die", run="echo run >> runs; kill -9 $PPID; sleep 60", retries=retries))
    end = bench.run("die")
    assert (end.state, "killed together with its supervisor" in end.detail) == (StepState.FAILED, True)
    assert (bench.workspace / "runs").read_text().count("run") == 3 + retries
    assert [text for text in bench.said() if "its supervisor was" in text] == [
        f"only/die: its supervisor was killed: again ({n} of 2 times for that)" for n in (1, 2)
    ]


def test_a_service_that_ended_by_itself_has_failed(tmp_path: Path):
    """A service that answered and then exited with 7 is FAILED with its last lines; one that is stopped is DONE."""
    ready = Ready(log="listening", timeout=60)
    crashes = Step(name="crashes", run="echo listening; echo broken pipe; exit 7", ready=ready)
    serves = Step(name="serves", run="echo listening; sleep 600", ready=ready)
    alone = Bench(tmp_path / "serves", serves)
    assert alone.run("serves").state == StepState.READY
    assert alone.stop_service("serves").state == StepState.DONE
    bench = Bench(tmp_path / "crashes", crashes)
    start = StepWork(bench.context, There(bench.context), Board(bench.context, PHASE), PHASE, "only/crashes", 1)
    start.mark(StepState.RUNNING)
    job = f"{RUN}.{PHASE}.only.crashes.1.1.0"
    bench.agent.start(Job(id=job, command=crashes.run, cwd=str(bench.workspace), timeout_s=60))
    bench.agent.follow(f"{RUN}.{PHASE}.only.crashes.1.1.0", 0, lambda _text, _offset: None)
    start.mark(StepState.READY)
    end = bench.stop_service("crashes")
    assert end.state == bench.row("crashes").state == StepState.FAILED
    assert "exit code 7\nlistening\nbroken pipe" in end.detail


SAYS = """echo '{"name": "speed", "value": 2.5, "measured_on": "CPU (x)", "device": "cpu"}' >> $GPUPLAN_METRICS"""
LIES = """echo '{"name": "gpu_utilisation", "value": 99, "device": "A100"}' >> $GPUPLAN_METRICS"""


def test_figures_carry_their_programs_word_on_where_they_were_measured(tmp_path: Path):
    """They come to the ledger with it, and back from the done-record; what the agent samples nobody else may say."""
    bench = Bench(tmp_path, Step(name="make", run=f"{SAYS}; {LIES}; echo out; echo err >&2"))
    assert bench.run("make").state == StepState.DONE
    for _ in range(2):
        (row,) = [row for row in bench.ledger.figures.all(run=RUN) if row.name != "disk_free_mib_min"]
        assert (row.step, row.node, row.name, row.value) == ("only/make", 0, "speed", 2.5)
        assert (row.measured_on, row.device) == ("CPU (x)", "cpu")
        log = StepLog(bench.context, PHASE, "only/make")
        assert list(log.lines()) == ["out"]
        bench.ledger.figures.remove(run=RUN)
        log.path.with_suffix(".stdout").unlink()
        bench = Bench(tmp_path, bench.context.phase(PHASE).steps[0].step)
        assert bench.run("make").state == StepState.UP_TO_DATE


def test_a_services_figures_are_kept_when_it_is_stopped(tmp_path: Path):
    """What a service publishes counts, whether it was stopped or ended by itself."""
    ready = Ready(log="listening", timeout=60)
    bench = Bench(tmp_path, Step(name="serves", run=f"{SAYS}; echo listening; sleep 600", ready=ready))
    bench.run("serves")
    assert bench.stop_service("serves").state == StepState.DONE
    assert bench.ledger.figures.get(run=RUN, step="only/serves", node=0, name="speed").device == "cpu"


def test_a_step_is_booked_for_what_it_ran_however_late_that_is_seen(tmp_path: Path):
    """Its end is its start and the agent's seconds: not the moment when a controller came back and looked."""
    bench = Bench(tmp_path, MAKE)
    work = StepWork(bench.context, There(bench.context), Board(bench.context, PHASE), PHASE, "only/make", 1)
    began = bench.context.now() - 3600
    work.mark(StepState.RUNNING, started_at=began, machines=MACHINE)
    work.end(StepState.DONE, "", [Attempt(exit=1, seconds=2.0), Attempt(exit=0, seconds=5.0)])
    assert bench.row("make").ended_at == pytest.approx(began + 7.0)


def test_done_records_of_earlier_versions_hold():
    """A record as it was written before is read; a damaged or foreign one proves nothing.

    Where its figures come from was the controller's word, and is left out.
    """
    old = {"step": "a/b", "key": "k", "run": "r", "at": 1.5, "files": [{"path": "x", "bytes": 3}], "log": "said"}
    found = records.parse(json.dumps(old | {"metrics": {"speed": 2}, "measured_on": "A100"}))
    assert found == records.DoneRecord(
        step="a/b", key="k", run="r", at=1.5, files=(records.CreatedFile("x", 3),), log="said",
        metrics={"speed": 2.0}, stdout="said",
    )  # fmt: skip
    assert records.parse(json.dumps(asdict(found))) == found
    for text in ("", "{", "[]", "7", '{"key": "k"}', '{"key": "k", "files": [1]}', json.dumps(old | {"metrics": [1]}),
                 json.dumps(old | {"figures": [{"name": "n", "value": "x", "node": 0}]})):  # fmt: skip
        assert records.parse(text) is None, text


def test_a_step_that_is_tried_again_says_how_the_try_before_ended(tmp_path: Path):
    """Its exit code and which attempt comes now are an event and a line of the log; the ledger has the attempt."""
    bench = Bench(tmp_path, Step(name="flaky", run="echo said; test -e once || { touch once; exit 9; }", retries=2))
    assert bench.run("flaky").state == StepState.DONE
    assert "only/flaky: exit code 9: again, attempt 2" in bench.said()
    (log,) = bench.context.folder.glob("logs/*/flaky.log")
    assert log.read_text() == "said\n[gpuplan: exit code 9: again, attempt 2]\nsaid\n"
    assert bench.row("flaky").tries == 2
