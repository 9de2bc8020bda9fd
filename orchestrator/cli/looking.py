"""Commands that only look: status, logs, cost. None of them launches the engine."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.app import app
from orchestrator.cli.common import Json, RunName, find_run, open_home, print_json
from orchestrator.words.errors import UsageError

if TYPE_CHECKING:
    import sqlalchemy as sa


@app.command()
def status(run: RunName = None, *, json: Json = False) -> None:
    """Show where a run is: phases, steps, deliverables, machines, volumes."""
    from orchestrator.report import documents, pages

    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    if json:
        print_json(documents.status(ledger, spec.run))
    else:
        pages.status(ledger, spec)


@app.command()
def cost(run: RunName = None, *, json: Json = False) -> None:
    """Show what a run has cost so far, beside what the plan says."""
    from orchestrator.report import documents, pages

    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    bill = documents.bill(ledger, spec.run, spec.plan)
    if json:
        print_json(bill.document())
    else:
        pages.bill(ledger, spec, bill)


@app.command()
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
    if json:
        shown = {f: f.relative_to(folder).as_posix().removesuffix(".log") for f in _log_files(folder, step)}
        logs = [{"step": name, "text": f.read_text("utf-8", "replace")} for f, name in shown.items()]
        print_json({"run": spec.run, "logs": logs})
        return
    seen: dict[Path, int] = {}
    while True:
        ended = ledger.one(_runs(), id=spec.run)["state"] == "DONE"
        files = _log_files(folder, step)
        if step and not files and (ended or not follow):
            raise UsageError(
                f"{spec.run} has no output of a step {step}", remedy=f"gpuplan status {spec.run} lists them"
            )
        for file in files:
            rest = ended or not follow  # then a last line without its end is printed too
            seen[file] = _print_new(file, folder, seen.get(file, 0), labelled=step is None, rest=rest)
        if ended or not follow:
            return
        time.sleep(0.5)


def _runs() -> sa.Table:
    from orchestrator.ledger import tables

    return tables.runs


def _log_files(folder: Path, step: str | None) -> list[Path]:
    files = sorted(folder.glob("*/*.log"), key=lambda p: p.stat().st_mtime) if folder.exists() else []
    if step is None:
        return files
    phase, _, name = step.rpartition("/")
    named = re.compile(re.escape(name) + r"(\.\d+)?\.log")  # a step on several nodes has one file for each
    return [f for f in files if named.fullmatch(f.name) and phase in ("", f.parent.name)]


def _print_new(file: Path, folder: Path, offset: int, *, labelled: bool, rest: bool) -> int:
    from orchestrator.report.console import escape

    with file.open("rb") as log:
        log.seek(offset)
        data = log.read()
    whole = len(data) if rest else data.rfind(b"\n") + 1
    label = f"{file.relative_to(folder).as_posix().removesuffix('.log')} | " if labelled else ""
    for line in data[:whole].decode("utf-8", "replace").splitlines():
        sys.stdout.write(f"{label}{escape(line)}\n")
    return offset + whole
