"""What several commands share: options, finding a run, printing one JSON document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.report.console import say
from orchestrator.words.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.ledger import Ledger
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec, WorldSpec
    from orchestrator.world.home import Home
    from orchestrator.world.world import Amend, World

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Detach = Annotated[bool, typer.Option("--detach", help="Go on in the background once it is confirmed.")]
EventsFile = Annotated[
    Path | None,
    typer.Option("--json-events", metavar="FILE", help="Append each event to FILE: a JSON document a line."),
]
RunName = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run; left out: the newest.", show_default=False)
]
PlanName = Annotated[
    str | None,
    typer.Option(
        "--plan",
        metavar="DIR|shipped",
        help="A plan's folder, or the plan that comes with gpuplan; left out: the nearest one upwards.",
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in place of the project's.")
]


_printed: list[object] = []  # a command prints one document, and no second one for the error that follows it


def print_json(document: object) -> None:
    """One document on stdout."""
    _printed.append(document)
    say(json.dumps(document, indent=2))  # ASCII: what could command a terminal is a number in it


def print_failure(error: str, remedy: str, code: int) -> None:
    """The document of a command that fails, unless it has printed its own already."""
    if not _printed:
        print_json({"error": error, "remedy": remedy, "exit": int(code)})


def read_plan(
    named: str | None, config: Path | None, phases: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> Plan:
    """The plan that is meant, and all that its settings name is there.

    `named`: by --plan; `phases`: that the command names. ConfigErrors, UsageError: see config.load_plan.
    """
    from orchestrator.config import load_plan
    from orchestrator.providers import require_known
    from orchestrator.world.opening import code_source

    plan = load_plan(_meant(named, phases), config=config, overrides=overrides or {})
    for name in plan.settings.providers:
        require_known(name)
    if plan.settings.code:
        code_source(plan)
    return plan


def _meant(named: str | None, phases: Sequence[str]) -> Path | None:
    """The folder of the plan that is meant; None: the shipped one. UsageError: there is none here, and none is named.

    The shipped plan is taken without its name only where its phases are named: nobody rents it by a slip.
    """
    from orchestrator.config import SHIPPED, find_plan, is_shipped
    from orchestrator.plan import ALL

    if named is not None:
        return None if named == SHIPPED else Path(named)
    if found := find_plan(Path.cwd()):
        return None if is_shipped(found) else found
    if not phases or ALL in phases:
        raise UsageError(
            f"there is no plan in {Path.cwd()}, nor above it (a folder with gpuplan.yaml or phases/)",
            remedy="--plan DIR names one, --plan shipped the one that comes with gpuplan",
        )
    return None


def open_home() -> tuple[Home, Ledger]:
    """GPUPLAN_HOME and its ledger. UsageError, DatabaseBusy: it cannot be opened."""
    import sqlite3

    from orchestrator.ledger import DatabaseFailed
    from orchestrator.world.home import Home

    home = Home.find()
    home.make()
    try:
        ledger = home.open_ledger()
    except (sqlite3.Error, DatabaseFailed, ImportError) as error:
        where = "GPUPLAN_DATABASE_URL" if home.database_url else str(home.path / "gpuplan.db")
        raise UsageError(
            f"the ledger cannot be opened ({where}): {getattr(error, '__cause__', None) or error}",
            remedy="a postgresql+psycopg:// URL needs the extra [postgres] and a server that answers"
            if home.database_url
            else "what may still run: gpuplan reap with another GPUPLAN_HOME that has the same owner file",
        ) from error
    if ledger.is_shared:
        from orchestrator.world import sharing

        home.bring = lambda run: sharing.bring(ledger, home, run)
    return home, ledger


def find_run(home: Home, ledger: Ledger, name: str | None, *, exactly: bool = False) -> RunSpec:
    """The run of that name, or the newest. UsageError: there is none, with the names that there are.

    `exactly`: see RunSpec.load.
    """
    from orchestrator.words.spec import RunSpec

    run = name or ledger.newest_run()
    if run is None:
        raise UsageError(
            "there is no run yet",
            remedy="gpuplan run all --plan shipped --dry-run rehearses the one that comes with gpuplan",
        )
    home.bring(run)
    if not (home.run_folder(run) / "run.json").exists():
        known = [r.id for r in ledger.runs.all()][-5:]
        raise UsageError(f"there is no run {run}", remedy=f"the newest ones: {', '.join(known) or 'none'}")
    return RunSpec.load(home.run_folder(run), exactly=exactly)


def open_world(home: Home, ledger: Ledger, spec: RunSpec, amend: Amend | None = None) -> World:
    """The world that the run is in. `amend`: see choose_world."""
    return choose_world(home, ledger, spec.world, spec.run, amend, owner=spec.owner)


def choose_world(
    home: Home, ledger: Ledger, spec: WorldSpec, run: str, amend: Amend | None = None, *, owner: str = ""
) -> World:
    """The real world or the rehearsed one: the one place where that is asked. `run`: who uses it.

    `amend`: what becomes of the way to a provider before its adapter is opened; None: nothing.
    `owner`: whose machines they are; "": this home's.
    """
    from orchestrator.world.world import unchanged

    amend = amend or unchanged
    if spec.dry_run:
        from orchestrator.world.rehearsed import rehearsed

        return rehearsed(home, ledger, spec, run, amend, owner=owner)
    from orchestrator.world.real import real

    return real(home, ledger, spec, amend, owner=owner)


def say_who_drives(home: Home, ledger: Ledger, spec: RunSpec, *, err: bool, only_if_nobody: bool = False) -> bool:
    """Say in one line who drives a run that has not ended; False: nobody does, though somebody should."""
    from orchestrator.report import pages
    from orchestrator.words.lifecycle import RunState

    driven = home.is_driven(spec.run)  # before the ledger is read: a run that ends meanwhile is no undriven one
    if ledger.runs.get(id=spec.run).state == RunState.DONE:
        return True
    if not (driven and only_if_nobody):
        say((pages.driver if driven else pages.undriven)(ledger, spec), err=err)
    return driven
