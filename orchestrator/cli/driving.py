"""A run from its first effect to its last word: the view, the end, the exit code; or the background that does so."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.common import print_json
from orchestrator.report.console import say
from orchestrator.words.errors import StillRunning, UsageError

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.report.snapshot import View
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.world import World


@dataclass(frozen=True, slots=True)
class DriveOptions:
    """How a run is brought to its end. `events`: a file for its events, a JSON document a line; None: nobody reads."""

    yes: bool
    json: bool
    detach: bool
    events: Path | None = None


def carry_out(world: World, spec: RunSpec, options: DriveOptions) -> None:
    """Bring the run to its end, show it, and exit with its code; or have the background do so."""
    from orchestrator.cli.background import detach
    from orchestrator.runner import drive

    if options.detach:
        detach(world.home, world.ledger, spec, json=options.json, events=options.events)
        return
    with _view(options) as view:
        result = drive(world, spec, view, attended=not options.yes and sys.stdin.isatty())
    try:
        show_end(world.ledger, spec, json=options.json, exit_code=int(result.exit_code))
    except BrokenPipeError:  # how it ended is said by the exit code all the same
        discard_output()
    if spec.world.throwaway:
        from orchestrator.world import tidy

        tidy.clear(tidy.litter(world.home, world.ledger))
    if result.left:
        raise StillRunning(
            "these may still cost money: " + "; ".join(result.left), remedy=f"gpuplan down {spec.run} ends them"
        )
    for fault in result.unfired:
        say(f"the fault {fault} never happened: what it was to show was not shown", err=True)
    raise typer.Exit(int(result.exit_code))


@contextlib.contextmanager
def _view(options: DriveOptions) -> Iterator[View]:
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
