"""The command that writes a run up: one HTML file that opens anywhere, or Markdown for a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import Json, RunName, find_run, open_home, print_json
from orchestrator.report.console import say
from orchestrator.words.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.report.page.account import Account

EXTRA = "pipx inject gpuplan pygal jinja2, or in a checkout: pip install '.[report]'"


def report(
    run: RunName = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Where to; else gpuplan-RUN.html, with --md stdout."),
    ] = None,
    md: Annotated[bool, typer.Option("--md", help="Markdown, as for a pull request.")] = False,
    json: Json = False,
) -> None:
    """Write a run up in one HTML file that needs no network: time, cost, GPUs, deliverables, figures, artifacts."""
    from orchestrator.report.page import gather
    from orchestrator.report.page.markdown import page as markdown

    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    driven = home.is_driven(spec.run)  # before the ledger is read: a run that ends meanwhile is no undriven one
    account = gather.account(ledger, spec, home.run_folder(spec.run), driven=driven)
    text = markdown(account) if md else _page(account)
    if md and out is None:
        if json:
            print_json({"run": spec.run, "markdown": text})
        else:
            say(text.rstrip("\n"))
        return
    file = out or Path(f"gpuplan-{spec.run}.html")
    _write(file, text)
    if json:
        print_json({"run": spec.run, "file": str(file.absolute())})
    else:
        say(f"{file}: {spec.plan.name} {spec.run}, {account.outcome}")


def _page(account: Account) -> str:
    """The HTML. UsageError: what draws it is not installed."""
    try:
        from orchestrator.report.page.html import page
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the page is made with pygal and jinja2, and {str(error.name).partition('.')[0]} is not installed",
            remedy=f"{EXTRA}; gpuplan report --md needs neither",
        ) from error
    return page(account)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", remedy="--out names another file") from error
