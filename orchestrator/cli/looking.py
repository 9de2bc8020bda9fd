"""Commands that only look: status, logs, cost. None of them launches the engine."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import Json, RunName, find_run, open_home, print_json, say_who_drives
from orchestrator.report.console import say
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import RunState

UNDRIVEN_LOOKS = 3  # in a row, before `logs -f` believes it: between a question and the run nobody drives it either


def ls(
    *,
    tag: Annotated[str, typer.Option("--tag", metavar="WORD", help="Only runs with this tag.")] = "",
    json: Json = False,
) -> None:
    """List all runs: state, what each costs now and has cost, and what it keeps."""
    from dataclasses import asdict

    from orchestrator.report import listing

    home, ledger = open_home()
    rows = listing.runs(ledger, home.is_driven, tag)
    if json:
        print_json({"runs": [asdict(r) | {"usd_hour": str(r.usd_hour), "usd": str(r.usd)} for r in rows]})
    elif rows:
        from orchestrator.report import pages

        pages.listing(rows, sys.stdout)
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


def logs(
    run: RunName = None,
    *,
    step: Annotated[str | None, typer.Option("--step", metavar="NAME", help="Only this step (or PHASE/STEP).")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    json: Json = False,
) -> None:
    """Print the steps' output; what a machine printed is escaped."""
    if json and follow:
        raise UsageError("--json prints one document, and --follow goes on", remedy="leave one of them out")
    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    folder = home.run_folder(spec.run) / "logs"
    undriven = not say_who_drives(home, ledger, spec, err=json, only_if_nobody=True)
    if json:
        _require_output(spec.run, step, _log_files(folder, step))
        shown = {f: f.relative_to(folder).as_posix().removesuffix(".log") for f in _log_files(folder, step)}
        logs = [{"step": name, "text": f.read_text("utf-8", "replace")} for f, name in shown.items()]
        print_json({"run": spec.run, "driven": home.is_driven(spec.run), "logs": logs})
        return
    seen: dict[Path, int] = {}
    looks = UNDRIVEN_LOOKS if undriven else 0
    while True:
        driven = home.is_driven(spec.run)
        ended = not follow or ledger.runs.get(id=spec.run).state == RunState.DONE
        looks = 0 if driven or ended else looks + 1
        over = ended or looks >= UNDRIVEN_LOOKS
        files = _log_files(folder, step)
        if over:
            _require_output(spec.run, step, files)
        for file in files:  # at the end a last line without its end is printed too
            seen[file] = _print_new(file, folder, seen.get(file, 0), labelled=step is None, rest=over)
        sys.stdout.flush()
        if over:
            break
        time.sleep(0.5)
    if looks:  # the last line says why it ends, too
        say_who_drives(home, ledger, spec, err=False, only_if_nobody=True)


def _require_output(run: str, step: str | None, files: list[Path]) -> None:
    """UsageError when a step was named and nothing of it is there."""
    if step and not files:
        raise UsageError(f"{run} has no output of a step {step}", remedy=f"gpuplan status {run} lists them")


def _log_files(folder: Path, step: str | None) -> list[Path]:
    files = sorted(folder.glob("*/*.log"), key=lambda p: p.stat().st_mtime) if folder.exists() else []
    if step is None:
        return files
    phase, _, name = step.rpartition("/")
    named = re.compile(re.escape(name) + r"(\.\d+)?\.log")  # a step on several nodes has one file for each
    return [f for f in files if named.fullmatch(f.name) and phase in ("", f.parent.name)]


def _print_new(file: Path, folder: Path, offset: int, *, labelled: bool, rest: bool) -> int:
    with file.open("rb") as log:
        log.seek(offset)
        data = log.read()
    whole = len(data) if rest else data.rfind(b"\n") + 1
    label = f"{file.relative_to(folder).as_posix().removesuffix('.log')} | " if labelled else ""
    for line in data[:whole].decode("utf-8", "replace").splitlines():
        say(f"{label}{line}", flush=False)
    return offset + whole
