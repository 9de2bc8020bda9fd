"""The command that takes runs from a database that several computers share: worker."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import find_run, open_home
from orchestrator.report.console import say
from orchestrator.words.errors import DatabaseBusy, ExitCode, GpuplanError, UsageError
from orchestrator.words.lifecycle import Outcome, RunState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.ledger.rows import RunRow
    from orchestrator.world.home import Home

LOOK_S = 2.0  # between two looks for runs that nobody drives
AGAIN_S = 60.0  # after which a run that could not be taken is tried again


def worker(
    *,
    once: Annotated[bool, typer.Option("--once", help="End when there is no run to take.")] = False,
) -> None:
    """Drive runs that were left with run --queue, and those whose driver has died; one at a time, until Ctrl-C.

    Any number of workers may share a PostgreSQL database (GPUPLAN_DATABASE_URL).
    """
    home, ledger = open_home()
    if not ledger.is_shared:
        raise UsageError(
            "a worker takes runs from a database that it shares with others",
            remedy="GPUPLAN_DATABASE_URL=postgresql+psycopg://... names it",
        )
    say(f"taking runs from {ledger.where}; Ctrl-C ends it, and with it the run that it drives")
    refused: dict[str, float] = {}
    while True:
        try:
            waiting = _undriven(home, ledger)
        except DatabaseBusy as error:
            say(str(error), err=True)
            time.sleep(LOOK_S)
            continue
        taken = next((row for row in waiting if refused.get(row.id, 0) <= time.monotonic()), None)
        if taken is None and once:
            return
        if taken is None:
            time.sleep(LOOK_S)
        elif not _drive(home, ledger, taken):
            refused[taken.id] = time.monotonic() + AGAIN_S


def _undriven(home: Home, ledger: Ledger) -> list[RunRow]:
    """The runs that wait for a driver, the oldest first: left for a worker, or driven before and not ended."""
    from orchestrator.engine.version import APPLICATION_VERSION
    from orchestrator.world import sharing

    living = [row for row in ledger.runs.all() if row.state != RunState.DONE and row.version == APPLICATION_VERSION]
    return [row for row in living if (row.pid or sharing.waits(ledger, row.id)) and not home.is_driven(row.id)]


def _drive(home: Home, ledger: Ledger, row: RunRow) -> bool:
    """Bring one run to its end; False: it could not be taken, which is said."""
    from orchestrator.cli.driving import DriveOptions
    from orchestrator.cli.resuming import take_up

    say(f"{row.id}: taking it")
    try:
        take_up(
            home, ledger, find_run(home, ledger, row.id, exactly=True), DriveOptions(yes=True, json=False, detach=False)
        )
    except typer.Exit as end:
        say(f"{row.id}: ended with exit code {end.exit_code}")
        stopped = ledger.runs.get(id=row.id)
        if stopped.outcome == Outcome.INTERRUPTED and not stopped.stop:  # by a signal to this process
            raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
        return True
    except GpuplanError as error:
        if any(one.name == "run" for one in threading.enumerate()):  # it was left to others, and what it did goes on
            raise
        say(f"{row.id}: {error}", err=True)
        return ledger.runs.get(id=row.id).state == RunState.DONE
    return True
