"""The command that serves the dashboard."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.common import Json, open_home, print_json
from orchestrator.report.console import say
from orchestrator.words.errors import UsageError

EXTRA = "pipx inject gpuplan starlette uvicorn jinja2 pygal, or in a checkout: pip install '.[dashboard]'"


def dashboard(
    *,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Of 127.0.0.1; 0: any that is free.")
    ] = 0,
    json: Json = False,
) -> None:
    """Serve a page on this computer: all runs, what costs money now, live steps, logs, down and resume."""
    try:
        from orchestrator.cli.dashboard.server import serve
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise UsageError(
            f"the dashboard is served by starlette and uvicorn, and {missing} is not installed",
            remedy=f"{EXTRA}; gpuplan status --watch needs nothing",
        ) from error
    home, ledger = open_home()

    def tell(link: str) -> None:
        if json:
            print_json({"url": link})
            return
        say(f"open {link}")
        say("the link opens it once, in one browser of this computer; Ctrl-C ends the dashboard, and no run")

    serve(home, ledger, port, tell)
