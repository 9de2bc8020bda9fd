"""Commands that make room at home: prune, rm. Neither touches a machine or a volume."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli.common import Json, Yes, open_home, print_json
from orchestrator.report.console import say
from orchestrator.words.errors import UsageError


def prune(
    *,
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=0, help="So many of the newest stay.")] = 3,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Delete what ended rehearsals pulled and their emulated clouds; ledger, plan and logs stay."""
    from orchestrator.report.figures import size
    from orchestrator.world import tidy

    home, ledger = open_home()
    found = tidy.litter(home, ledger, keep)
    total = size(sum(one.bytes for one in found))
    if not found:
        say("nothing to delete", err=json)
    elif _agreed(f"Delete {total} of {len(found)} ended rehearsals?", yes=yes, json=json):
        tidy.clear(found)
        say(f"deleted: {total} of {', '.join(one.run for one in found)}", err=json)
    else:
        found = []
        say("nothing was deleted", err=json)
    if json:
        print_json({"deleted": [{"run": one.run, "bytes": one.bytes} for one in found]})


def rm(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs that have ended.")],
    *,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Forget ended runs: their lines in the ledger, plans, logs and what a rehearsal pulled."""
    from orchestrator.report.figures import size
    from orchestrator.world import tidy

    home, ledger = open_home()
    total = 0
    for run in dict.fromkeys(runs):
        if (row := ledger.runs.maybe(id=run)) is None:
            raise UsageError(f"there is no run {run}", remedy="gpuplan ls lists them")
        if why := tidy.why_not(home, ledger, row):
            raise UsageError(why, remedy=f"gpuplan down {run} --volumes ends it")
        total += tidy.size_of(home.run_folder(run))
    agreed = _agreed(f"Forget {', '.join(dict.fromkeys(runs))}, with {size(total)} of files?", yes=yes, json=json)
    for run in dict.fromkeys(runs) if agreed else ():
        tidy.forget(home, ledger, run)
    say(f"forgotten: {', '.join(dict.fromkeys(runs))}" if agreed else "nothing was deleted", err=json)
    if json:
        print_json({"forgotten": list(dict.fromkeys(runs)) if agreed else []})


def _agreed(question: str, *, yes: bool, json: bool) -> bool:
    """Whether somebody says yes. UsageError: nobody is there to ask."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is there to answer", remedy="--yes deletes without asking")
    return typer.confirm(question, err=json)
