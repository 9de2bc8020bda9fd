"""What several commands share: options, finding a run, printing one JSON document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.engine.spec import RunSpec
    from orchestrator.home import Home
    from orchestrator.ledger import Ledger

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Detach = Annotated[bool, typer.Option("--detach", help="Go on in the background once it is confirmed.")]
RunName = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run; left out: the newest.", show_default=False)
]
PlanFolder = Annotated[
    Path | None,
    typer.Option("--plan", metavar="DIR", help="Folder with a plan's phase files; left out: the shipped plan."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in place of the project's.")
]


def print_json(document: Any) -> None:
    """One document on stdout."""
    typer.echo(json.dumps(document, indent=2))


def open_home() -> tuple[Home, Ledger]:
    """GPUPLAN_HOME and its ledger."""
    from orchestrator.home import Home
    from orchestrator.ledger import open_ledger

    home = Home.find()
    home.make()
    return home, open_ledger(home.path, home.database_url)


def find_run(home: Home, ledger: Ledger, name: str | None) -> RunSpec:
    """The run of that name, or the newest. UsageError: there is none, with the names that there are."""
    from orchestrator.engine.spec import RunSpec
    from orchestrator.ledger import tables

    run = name or ledger.newest_run()
    if run is None:
        raise UsageError("there is no run yet", remedy="gpuplan run all --dry-run rehearses the whole plan")
    if not (home.run_folder(run) / "run.json").exists():
        known = [str(r["id"]) for r in ledger.all(tables.runs)][-5:]
        raise UsageError(f"there is no run {run}", remedy=f"the newest ones: {', '.join(known) or 'none'}")
    return RunSpec.load(home.run_folder(run))
