"""The command that ends a run: down, beside a living process or after a dead one, with the ledger or without it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import Json, RunName, Yes, find_run, open_home, open_world, print_json
from orchestrator.report.console import say
from orchestrator.words.errors import DatabaseBusy, GpuplanError, StillRunning, UsageError

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.ledger.rows import VolumeRow
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home
    from orchestrator.world.world import World

WAIT_S = 1800.0  # how long `down` waits for the process that drives the run to end it
BESIDE_S = 60.0  # after which it ends the machines beside it, in the cloud's time


def down(
    run: RunName = None,
    *,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Every run, machine (and with --volumes volume) of this owner, after a question."),
    ] = False,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Delete its plan's volumes too, with what is on them, after a question.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """End what a run left: its machines, with --volumes its volumes; beside a living process or after a dead one."""
    from orchestrator.ledger import DatabaseFailed

    try:
        home, ledger = open_home()
    except DatabaseBusy as error:
        raise StillRunning(
            f"{error.message}; {_end_unread(run)}", remedy="free it, then gpuplan down RUN writes it down"
        ) from error
    if everything:
        from orchestrator.cli.sweeping import end_all

        if run:
            raise UsageError(f"--all is every run, and {run} is one", remedy="name the run, or leave it out")
        end_all(home, ledger, lambda one: _end(home, ledger, one, delete=[]), volumes=volumes, yes=yes, json=json)
        return
    spec = find_run(home, ledger, run)
    doomed, wanted = _doomed(home, ledger, spec, yes=yes, json=json) if volumes else ([], None)
    living = [m.name for m in ledger.machines.all(run=spec.run) if not m.state.is_final]
    try:
        left = _end(home, ledger, spec, delete=wanted or [])
    except (DatabaseFailed, DatabaseBusy) as error:  # a full disk, or another's lock: the machines end all the same
        busy = error if isinstance(error, DatabaseBusy) else None
        why = busy.message if busy else error.__cause__ or error
        raise StillRunning(
            f"the ledger cannot be written ({why}); {_end_by_name(home, ledger, spec)}",
            remedy=f"{'free it' if busy else 'make room on the disk'}, then gpuplan down {spec.run} writes it down",
        ) from error
    deleted = [row for row in doomed if row.name in (wanted or []) and not _is_there(ledger, row.name)]
    _tell(ledger, spec, left, living, deleted, json=json)
    if left:
        raise StillRunning(
            "these may still cost money: " + "; ".join(left), remedy=f"gpuplan down {spec.run} tries again"
        )
    if volumes and wanted is None:
        raise UsageError(
            "nobody is there to confirm that volumes are deleted: they are kept", remedy="--yes deletes them"
        )


def _doomed(
    home: Home, ledger: Ledger, spec: RunSpec, *, yes: bool, json: bool
) -> tuple[list[VolumeRow], list[str] | None]:
    """The volumes that may go, and the names of those that somebody wants deleted (None: nobody is there to ask)."""
    from orchestrator.cli import deleting
    from orchestrator.cli.proposal import require_free

    require_free(home, ledger, spec)
    rows = deleting.doomed(ledger, spec)
    return rows, deleting.agreed(ledger, spec, rows, yes=yes, json=json)


def _is_there(ledger: Ledger, volume: str) -> bool:
    return not ledger.volumes.get(name=volume).state.is_final


def _tell(
    ledger: Ledger, spec: RunSpec, left: list[str], ended: list[str], deleted: list[VolumeRow], *, json: bool
) -> None:
    """What was done, and what goes on costing money."""
    from orchestrator.report import documents, leftover

    if json:
        names = [row.name for row in deleted]
        print_json({"run": spec.run, "left": left, "deleted": names, "kept": documents.kept(ledger, spec)})
        return
    for row in deleted:
        say(f"deleted: volume {row.name}, {row.size_gb} GB")
    if left:
        return
    for name in ended:
        say(f"ended: {name}")
    say(f"{spec.run}: nothing of it is running")
    for line in leftover.kept(ledger, spec) + leftover.unfinished(ledger, spec):
        say(line)


def _end(home: Home, ledger: Ledger, spec: RunSpec, *, delete: list[str]) -> list[str]:
    """Ask whoever drives the run to stop, or end it from here; return what is left. StillRunning: nobody stops."""
    from orchestrator.world.clock import MIN_TIME_SCALE, SystemClock
    from orchestrator.world.signals import stopping_on_signals

    give_up = time.monotonic() + WAIT_S
    beside = time.monotonic() + SystemClock(MIN_TIME_SCALE if spec.world.dry_run else 1.0).real(BESIDE_S)
    while time.monotonic() < give_up:
        ledger.runs.change({"id": spec.run}, stop="stopped by gpuplan down")
        with home.lock(spec.run) as mine:
            if mine:
                with stopping_on_signals(lambda _kind, _why: False, lambda text: say(text, err=True)):
                    return _end_here(open_world(home, ledger, spec), spec, delete=delete)
        if time.monotonic() > beside and not spec.world.ssh_host:
            beside = give_up
            _end_beside(home, ledger, spec)
        time.sleep(0.5)
    raise StillRunning(
        f"the process that drives {spec.run} did not end it in {WAIT_S:.0f} s",
        remedy=f"end that process, then gpuplan down {spec.run}",
    )


def _end_here(world: World, spec: RunSpec, *, delete: list[str]) -> list[str]:
    """End what the run left, without the durable engine; its lock is held. Return what could not be ended.

    `delete`: volumes that go with it.
    """
    from orchestrator.engine import accounting
    from orchestrator.engine.books import close_books
    from orchestrator.engine.durable import give_up
    from orchestrator.engine.effects import NotGone
    from orchestrator.engine.ending import Ending
    from orchestrator.engine.machines import Machines
    from orchestrator.engine.volumes import Volumes
    from orchestrator.words.lifecycle import VolumeState
    from orchestrator.world.opening import open_run

    opened = open_run(world, spec)
    context = opened.context
    try:
        give_up(spec.run, database_url=context.ledger.url)
        made = Volumes(context)
        ending = Ending(context, Machines(context), made)
        left = ending.end_machines("gpuplan down")
        for row in accounting.living_volumes(context.ledger, spec):
            begun = row.state == VolumeState.DESTROYING or spec.fleeting  # what was begun is finished
            if row.provider == spec.world.provider and (row.name in delete or begun):
                end = made.destroy(row.name)
                left += [f"{row.name} ({end.why})"] if isinstance(end, NotGone) else []
        ending.settle()
        if not left:
            close_books(context.ledger, spec.run)
        return left
    finally:
        opened.close()
        world.leave(spec.run)


def _end_beside(home: Home, ledger: Ledger, spec: RunSpec) -> None:
    """End the run's machines at the provider though another process drives it; say what was done."""
    say(f"the process that drives {spec.run} takes long: its machines are ended by their names", err=True)
    try:
        say(_end_by_name(home, ledger, spec), err=True)
    except GpuplanError as error:  # that process goes on trying, and so does the wait for it
        say(str(error), err=True)


def _end_by_name(home: Home, ledger: Ledger, spec: RunSpec) -> str:
    """End the run's machines at the provider, whatever the ledger can take; say what was done."""
    from orchestrator.engine.leftovers import end_unwritten
    from orchestrator.world.opening import open_run

    opened = open_run(open_world(home, ledger, spec), spec)
    try:
        return end_unwritten(opened.context)
    finally:
        opened.close()


def _end_unread(run: str | None) -> str:
    """End the run's machines though the ledger cannot even be read; say what was done."""
    from orchestrator.ledger import open_ledger
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home

    if run is None:
        return "name the run: its machines are ended without it"
    home = Home.find()
    spec = RunSpec.load(home.run_folder(run))
    with tempfile.TemporaryDirectory() as folder:  # an empty ledger: machines are known by their names
        return _end_by_name(home, open_ledger(Path(folder)), spec)
