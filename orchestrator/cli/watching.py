"""The live view of a run that another process drives: `gpuplan status --watch`, from any terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.common import say_who_drives
from orchestrator.report.console import say
from orchestrator.words.lifecycle import RunState, StepState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.report.snapshot import Snapshot, View
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home

LOOK_S = 1.0
LAST_BYTES = 4096  # of a step's log: enough for its last line


def watch(home: Home, ledger: Ledger, spec: RunSpec) -> None:
    """Show the run until it ends, or until nobody drives it, which is said; Ctrl-C ends looking, and nothing else."""
    from orchestrator.report.views import open_view, snapshot

    say_who_drives(home, ledger, spec, err=False)
    with contextlib.suppress(KeyboardInterrupt), open_view(err=False) as view:
        while True:
            driven = home.is_driven(spec.run)  # before the ledger is read: a run that ends meanwhile is no undriven one
            seen = snapshot(ledger, spec, driven=driven)
            _show(view, seen, home.run_folder(spec.run) / "logs")
            if seen.state == RunState.DONE or not driven:
                break
            time.sleep(LOOK_S)
    _last_words(ledger, spec)


def _show(view: View, seen: Snapshot, logs: Path) -> None:
    """The picture, with the last line of each step that runs, and how far it says it is."""
    for phase in seen.phases:
        for step in phase.steps:
            if step.state in (StepState.RUNNING, StepState.READY):
                name = step.id.removeprefix(f"{phase.name}/").replace("/", ".")
                view.log(step.id, last_line(logs / phase.name / f"{name}.log"))
    view.update(seen)


def last_line(log: Path) -> str:
    """The last line of a log that has something in it; "": there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - LAST_BYTES, 0))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")


def _last_words(ledger: Ledger, spec: RunSpec) -> None:
    from orchestrator.report import pages

    if ledger.runs.get(id=spec.run).state == RunState.DONE:
        pages.end(ledger, spec, err=False)
    else:
        say(f"the run goes on without this view: gpuplan status --watch {spec.run}")
    sys.stdout.flush()
