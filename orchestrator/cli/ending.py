"""Commands that go on with a run or end it: resume, down."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.app import app
from orchestrator.cli.common import Detach, Json, RunName, Yes, find_run, open_home, print_json
from orchestrator.words.errors import GpuplanError, StillRunning

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home

WAIT_S = 1800.0  # how long `down` waits for the process that drives the run to end it
BESIDE_S = 60.0  # after which it ends the machines beside it, in the cloud's time


@app.command()
def resume(run: RunName = None, *, yes: Yes = False, detach: Detach = False, json: Json = False) -> None:
    """Go on with a run: a dead process's where it was, an ended one's as RUN.2 on the same frozen plan."""
    from orchestrator.cli import running
    from orchestrator.ledger import tables

    home, ledger = open_home()
    spec = find_run(home, ledger, run, exactly=True)
    way = running.Way(yes=yes, json=json, detach=detach)
    row = ledger.maybe(tables.runs, id=spec.run) or {"state": "PLANNED", "outcome": None}  # killed before its first row
    if row["state"] == "DONE" and row["outcome"] == "succeeded":
        typer.echo(f"{spec.run} is done; nothing to resume", err=True)
        running.show_end(home, ledger, spec, json=json)
        return
    if row["state"] == "DONE":
        following = home.following(spec.run)
        spec = spec.model_copy(
            update={
                "run": following,
                "previous": spec.run,
                "created_at": ledger.now(),
                "force": False,
                "world": spec.world.model_copy(update={"faults": ()}),
            }
        )
        running.begin(home, ledger, spec, way)
        return
    if row["state"] != "TEARING_DOWN":  # what is only ended needs none
        running.require_open_secrets(ledger, spec)
    running.drive(home, ledger, spec, way)


@app.command()
def down(
    run: RunName = None,
    *,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Delete the run's volumes too, with what is on them.")
    ] = False,
    json: Json = False,
) -> None:
    """End what a run left: its machines, with --volumes its volumes; beside a living process or after a dead one."""
    from sqlalchemy.exc import SQLAlchemyError

    from orchestrator.cli.prepare import require_free
    from orchestrator.ledger import tables
    from orchestrator.report import documents, pages
    from orchestrator.runner import end_by_name
    from orchestrator.words.lifecycle import ENDED

    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    if volumes:
        require_free(home, ledger, spec)
    living = [str(m["name"]) for m in ledger.all(tables.machines, run=spec.run) if m["state"] not in ENDED]
    try:
        left = _end(home, ledger, spec, volumes=volumes)
    except SQLAlchemyError as error:  # a full disk, most likely: the machines end all the same
        raise StillRunning(
            f"the ledger cannot be written ({error.__cause__ or error}); {end_by_name(home, spec)}",
            remedy=f"make room on the disk, then gpuplan down {spec.run} writes it down",
        ) from error
    if json:
        print_json({"run": spec.run, "left": left, "kept": documents.kept(ledger, spec)})
    if left:
        raise StillRunning(
            "these may still cost money: " + "; ".join(left), remedy=f"gpuplan down {spec.run} tries again"
        )
    if json:
        return
    for name in living:
        typer.echo(f"ended: {name}")
    typer.echo(f"{spec.run}: nothing of it is running")
    for line in pages.kept(ledger, spec) + pages.unfinished(ledger, spec):
        typer.echo(line)


def _end(home: Home, ledger: Ledger, spec: RunSpec, *, volumes: bool) -> list[str]:
    """Ask whoever drives the run to stop, or end it from here; return what is left. StillRunning: nobody stops."""
    from orchestrator.ledger import tables
    from orchestrator.runner import end_run, stopping_on_signals
    from orchestrator.world.clock import MIN_TIME_SCALE, SystemClock

    give_up = time.monotonic() + WAIT_S
    beside = time.monotonic() + SystemClock(MIN_TIME_SCALE if spec.world.dry_run else 1.0).real(BESIDE_S)
    while time.monotonic() < give_up:
        ledger.change(tables.runs, {"id": spec.run}, stop="stopped by gpuplan down")
        with home.lock(spec.run) as mine:
            if mine:
                with stopping_on_signals(lambda _kind, _why: False, lambda text: typer.echo(text, err=True)):
                    return end_run(home, spec, volumes=volumes)
        if time.monotonic() > beside and not spec.world.ssh_host:
            beside = give_up
            _beside(home, spec)
        time.sleep(0.5)
    raise StillRunning(
        f"the process that drives {spec.run} did not end it in {WAIT_S:.0f} s",
        remedy=f"end that process, then gpuplan down {spec.run}",
    )


def _beside(home: Home, spec: RunSpec) -> None:
    """End the run's machines at the provider though another process drives it; say what was done."""
    from orchestrator.runner import end_by_name

    typer.echo(f"the process that drives {spec.run} takes long: its machines are ended by their names", err=True)
    try:
        typer.echo(end_by_name(home, spec), err=True)
    except GpuplanError as error:  # that process goes on trying, and so does the wait for it
        typer.echo(str(error), err=True)
