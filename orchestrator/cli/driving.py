"""A run from its first effect to its last word: the view, the end, the exit code; or the background that does so."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.common import print_json
from orchestrator.words.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.report.snapshot import View
    from orchestrator.words.spec import RunSpec


@dataclass(frozen=True, slots=True)
class DriveOptions:
    """How a run is brought to its end. `events`: a file for its events, a JSON document a line; None: nobody reads."""

    yes: bool
    json: bool
    detach: bool
    events: Path | None = None
    queue: bool = False  # left for a worker


@contextlib.contextmanager
def open_views(options: DriveOptions) -> Iterator[View]:
    """What a person sees, and what other programs read."""
    from orchestrator.report.events import EventsView
    from orchestrator.report.views import open_view

    with open_view(err=options.json) as view, contextlib.ExitStack() as block:
        if options.events is None:
            yield view
            return
        try:
            out = block.enter_context(options.events.open("a", encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"--json-events {options.events}: {error.strerror}", remedy="name a file") from error
        yield EventsView(view, out)


def discard_output() -> None:
    """Whoever read has gone: from now on nothing is said on standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_end(ledger: Ledger, spec: RunSpec, *, json: bool, exit_code: int | None = None) -> None:
    """The final status: one JSON document, or the table of phases and what to do."""
    from orchestrator.report import documents, pages

    pages.end(ledger, spec, err=json)
    if json:
        print_json(documents.status(ledger, spec, driven=False, exit_code=exit_code))
