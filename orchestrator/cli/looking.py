"""Commands that only look: status, logs, cost. None of them launches the engine."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from orchestrator.cli.common import Json, RunName, find_run, open_home, print_json, say_who_drives
from orchestrator.report.console import say
from orchestrator.report.figures import money
from orchestrator.words.errors import UsageError


def ls(
    *,
    tag: Annotated[str, typer.Option("--tag", metavar="WORD", help="Only runs with this tag.")] = "",
    json: Json = False,
) -> None:
    """List all runs: state, what each costs now and has cost, and what it keeps."""
    from dataclasses import asdict

    from orchestrator.report import listing

    home, ledger = open_home()
    rows, between = listing.runs(ledger, home.is_driven, tag), listing.between_runs(ledger)
    if json:
        listed = [asdict(r) | {"usd_hour": str(r.usd_hour), "usd": str(r.usd)} for r in rows]
        print_json({"runs": listed, "volumes_between_runs_usd": str(round(between, 6))})
    elif rows:
        for line in listing.table(rows, shutil.get_terminal_size((119, 24)).columns):
            say(line)
        if between and not tag:
            say(f"volumes between runs: {money(between)}, which is in no run's cost")
    else:
        say("there is no run yet" if not tag else f"no run has the tag {tag}")


def status(
    run: RunName = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look on until the run ends; Ctrl-C ends looking.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Providers' names, and every event.")] = False,
    json: Json = False,
) -> None:
    """Show where a run is: phases, steps, deliverables, machines, volumes."""
    from orchestrator.report import documents, pages

    if json and watch:
        raise UsageError("--json prints one document, and --watch goes on", remedy="leave one of them out")
    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    if watch:
        from orchestrator.cli.watching import watch as look_on

        look_on(home, ledger, spec)
        return
    driven = home.is_driven(spec.run)  # before the ledger is read: a run that ends meanwhile is no undriven one
    found = documents.status(ledger, spec, driven=driven)
    if json:
        print_json(found)
    else:
        pages.status(ledger, spec, found, closely=verbose)


def cost(run: RunName = None, *, json: Json = False) -> None:
    """Show what a run has cost so far, beside what the plan says."""
    from orchestrator.report import documents, pages

    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    say_who_drives(home, ledger, spec, err=json)
    bill = documents.bill(ledger, spec.run, spec.plan)
    if json:
        print_json(bill.document() | {"driven": home.is_driven(spec.run)})
    else:
        pages.bill(ledger, spec, bill)
