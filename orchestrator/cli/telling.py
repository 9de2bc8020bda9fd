"""Who is told of a run while it is driven: the settings' `notify`, around whatever is shown here."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator.report.console import say
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import RunState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.report.notices import Notice
    from orchestrator.report.snapshot import View
    from orchestrator.runner import Result
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home
    from orchestrator.world.world import World

GUARD = "import sys; from orchestrator.cli.telling import guard; guard(sys.argv[1])"
BEGINS_S = 60.0  # within which the driver has the run's lock
AGAIN_S = 20.0  # within which somebody may take a run up again before anybody is told that nobody does

_guards: list[subprocess.Popen[bytes]] = []  # they outlive this process, and are nobody's to wait for


@dataclass(frozen=True, slots=True)
class Telling:
    """What is shown, and what is to be told at the end."""

    view: View
    ended: Callable[[Result], None]


def require(spec: RunSpec) -> None:
    """UsageError unless everybody can be told whom the settings name: said before anything is rented."""
    if spec.plan.settings.notify:
        from orchestrator.world.notifier import addresses

        addresses(spec.plan.settings.notify, rehearsed=spec.world.dry_run)


@contextlib.contextmanager
def about(world: World, spec: RunSpec, view: View) -> Iterator[Telling]:
    """Tell of the run what its settings say. Where nobody is told, or cannot be, the view alone."""
    if not spec.plan.settings.notify:
        yield Telling(view, lambda _result: None)
        return
    from orchestrator.report.notices import Notices, NoticesView
    from orchestrator.world import notifier

    try:
        to = notifier.addresses(spec.plan.settings.notify, rehearsed=spec.world.dry_run)
    except UsageError as error:  # a new run has been refused before: this one goes on
        say(str(error), err=True)
        to = []
    if spec.world.dry_run and not to:
        view.say("notify: a rehearsal tells nobody outside this computer")
    sender = notifier.Notifier(to, world.clock, view.say)
    on = frozenset(spec.plan.settings.notify_on)
    notices = Notices(on, _earlier(world.ledger, spec))

    def tell(notice: Notice) -> None:
        if notice.kind in on:
            sender.tell(notice)

    def failed() -> list[tuple[str, str, str]]:
        rows = world.ledger.deliverables.all(run=spec.run, ok=False)
        return [(row.phase, row.name, row.detail) for row in rows]

    def ended(result: Result) -> None:
        for notice in _last_words(world.ledger, spec, result):
            tell(notice)

    if to and not spec.world.dry_run and "undriven" in on:
        _begin_guard(world.home, spec)
    try:
        yield Telling(NoticesView(view, notices, failed, tell) if to else view, ended)
    finally:
        sender.end()


def _earlier(ledger: Ledger, spec: RunSpec) -> Decimal:
    """What runs have spent that share the budget."""
    from orchestrator.engine import accounting

    return accounting.accrued_with_earlier(ledger, spec.run) - accounting.accrued(ledger, spec.run)


def _last_words(ledger: Ledger, spec: RunSpec, result: Result) -> list[Notice]:
    from orchestrator.report import documents, notices, verdicts
    from orchestrator.report.views import snapshot

    summary = verdicts.summary(verdicts.of_run(ledger, spec))
    return notices.ended(
        snapshot(ledger, spec), result.outcome, result.left, summary, documents.reason(ledger, spec.run)
    )


def _begin_guard(home: Home, spec: RunSpec) -> None:
    """Have a process look on that outlives this one: it alone can tell that nobody drives the run any more."""
    _guards.append(
        subprocess.Popen(
            [sys.executable, "-P", "-c", GUARD, spec.run],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "GPUPLAN_HOME": str(home.path)},
        )
    )


def guard(run: str) -> None:
    """Wait, without doing anything, until the process that drives the run ends; tell, if the run has not.

    Whoever takes it up again has a guard of its own.
    """
    from orchestrator.world.home import Home

    home = Home.find()
    _until(lambda: home.is_driven(run), BEGINS_S)
    home.wait_undriven(run)
    with contextlib.closing(home.open_ledger()) as ledger:
        if not _until(lambda: home.is_driven(run) or ledger.runs.get(id=run).state == RunState.DONE, AGAIN_S):
            tell_undriven(home, ledger, run)


def tell_undriven(home: Home, ledger: Ledger, run: str) -> None:
    """Tell that nobody drives it, what it costs meanwhile, and what to do."""
    from orchestrator.report import notices, pages
    from orchestrator.words.spec import RunSpec
    from orchestrator.world import notifier

    spec = RunSpec.load(home.run_folder(run))
    notice = notices.undriven(run, spec.plan.name, pages.undriven(ledger, spec))
    for address in notifier.addresses(spec.plan.settings.notify, rehearsed=spec.world.dry_run):
        notifier.by_apprise(address, notice.title, notice.text)


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether it holds within so many seconds."""
    give_up = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.5)
    return True
