"""Who is told of a run: what `notify` says, around a view, and by a guard when the driver is no more."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.cli import telling
from orchestrator.ledger.rows import DeliverableRow, PhaseRow, RunRow
from orchestrator.report.views import snapshot
from orchestrator.runner import Result
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import Outcome, PhaseState, RunState
from orchestrator.words.spec import RunSpec
from orchestrator.world.clock import SystemClock
from orchestrator.world.home import Home
from orchestrator.world.world import World
from tests.unit.receiver import Receiver
from tests.unit.report.test_notices import Shown
from tests.unit.report.written import Written

HOLD = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(); time.sleep(600)"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("desk"))


def spec_of(written: Written, run: str, *, dry_run: bool = False, **settings: Any) -> RunSpec:
    """A run under way whose settings say whom to tell."""
    spec = written.desk.bench.spec
    plan = spec.plan.model_copy(update={"settings": spec.plan.settings.model_copy(update=settings)})
    made = spec.model_copy(
        update={"run": run, "plan": plan, "world": spec.world.model_copy(update={"dry_run": dry_run})}
    )
    folder = written.desk.home.run_folder(run)
    folder.mkdir()
    made.save(folder)
    ledger = written.desk.home.open_ledger()
    ledger.runs.put(RunRow(id=run, state=RunState.RUNNING, created_at=ledger.now(), dry_run=dry_run))
    ledger.phases.put(PhaseRow(run=run, name="train", state=PhaseState.RUNNING))
    return made


def world_of(written: Written) -> World:
    home, nobody = written.desk.home, cast("Any", None)  # nothing is asked of providers, stores and secrets
    return World(
        home=home, ledger=home.open_ledger(), clock=SystemClock(), provider=nobody, store=nobody, secret=nobody,
        source=nobody, public_key="", key_file=Path(),
    )  # fmt: skip


def test_a_run_is_told_to_its_end(written: Written, receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    """Its start at once, and in one message what has failed and how it ended; the view has every picture."""
    monkeypatch.setenv("HOOK", receiver.address.reveal())
    spec = spec_of(
        written,
        "1110-told",
        notify=("HOOK",),
        notify_on=("started", "deliverable_failed", "done"),
    )
    world, shown = world_of(written), Shown()
    with telling.about(world, spec, shown) as told:
        told.view.update(snapshot(world.ledger, spec))
        give_up = time.monotonic() + 30
        while not receiver.got and time.monotonic() < give_up:
            time.sleep(0.05)
        world.ledger.deliverables.put(
            DeliverableRow(run=spec.run, phase="train", name="answers", ok=False, detail="London")
        )
        told.view.update(snapshot(world.ledger, spec))
        told.ended(Result(Outcome.FAILED, ()))
    first, last = receiver.got
    assert first["title"] == "toy 1110-told: has started"
    assert "does not hold: answers (train)\nLondon" in last["message"]
    assert "toy 1110-told: failed" in last["message"]
    assert len(shown.pictures) == 2
    assert shown.said == []


def test_a_rehearsal_tells_nobody_outside(written: Written):
    """It says so, once."""
    spec = spec_of(written, "1111-dry", dry_run=True, notify=("ntfy://a-topic",))
    shown = Shown()
    with telling.about(world_of(written), spec, shown) as told:
        assert told.view is shown
        told.ended(Result(Outcome.SUCCEEDED, ()))
    assert shown.said == ["notify: a rehearsal tells nobody outside this computer"]


def test_a_variable_that_is_gone_ends_no_run(written: Written, capsys: pytest.CaptureFixture[str]):
    """A new run is refused before anything is rented; one that goes on goes on, and it is said."""
    spec = spec_of(written, "1112-gone", notify=("NO_SUCH_HOOK",))
    with pytest.raises(UsageError, match="NO_SUCH_HOOK is not set"):
        telling.require(spec)
    shown = Shown()
    with telling.about(world_of(written), spec, shown) as told:
        assert told.view is shown
    assert "NO_SUCH_HOOK is not set" in capsys.readouterr().err


def test_nobody_is_told_where_nothing_is_said(written: Written):
    """No setting, no thread, no process: the view alone."""
    spec = written.desk.bench.spec
    telling.require(spec)
    shown, before = Shown(), threading.active_count()
    with telling.about(world_of(written), spec, shown) as told:
        assert told.view is shown
        assert threading.active_count() == before


@pytest.mark.parametrize("over", [False, True])
def test_a_killed_driver_is_told_of(
    written: Written, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, *, over: bool
):  # fmt: skip
    """The guard, which waited beside it, tells what the run costs and what to do; of one that has ended, nothing."""
    run = f"1113-kill{int(over)}"
    monkeypatch.setenv("HOOK", receiver.address.reveal())
    monkeypatch.setenv("GPUPLAN_HOME", str(written.desk.home.path))
    monkeypatch.setattr(telling, "AGAIN_S", 1.0)
    spec_of(written, run, notify=("HOOK",))
    lock = written.desk.home.run_folder(run) / "lock"
    with subprocess.Popen([sys.executable, "-P", "-c", HOLD, lock], stdout=subprocess.PIPE) as driver:
        assert driver.stdout
        driver.stdout.readline()
        guard = threading.Thread(target=telling.guard, args=(run,))
        guard.start()
        guard.join(0.5)
        assert guard.is_alive()
        assert receiver.got == []
        if over:
            Home(written.desk.home.path).open_ledger().runs.change({"id": run}, state=RunState.DONE)
        driver.kill()
        guard.join(30)
    assert not guard.is_alive()
    if over:
        assert receiver.got == []
        return
    (got,) = receiver.got
    assert got["title"] == f"toy {run}: nobody drives it any more"
    assert f"gpuplan resume {run} goes on" in got["message"]
