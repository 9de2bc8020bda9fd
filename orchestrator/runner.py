"""Drives one run in this process: its lock, its signals, its view, and the words and exit code at its end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.engine import accounting
from orchestrator.engine.books import close_books, open_books
from orchestrator.engine.context import Context
from orchestrator.engine.control import Watch, Why
from orchestrator.engine.effects import NotGone, RunEnd
from orchestrator.engine.leftovers import end_unwritten, reserve
from orchestrator.engine.limits import Limits
from orchestrator.engine.version import APPLICATION_VERSION
from orchestrator.ledger import open_ledger
from orchestrator.ledger.rows import RunRow
from orchestrator.report.snapshot import Snapshot, View
from orchestrator.report.views import snapshot
from orchestrator.report.words import how_far
from orchestrator.words.errors import ExitCode, GpuplanError, StillRunning, UsageError
from orchestrator.words.lifecycle import Outcome, RunState, VolumeState
from orchestrator.words.spec import RunSpec
from orchestrator.world.home import Home
from orchestrator.world.session import Session, close_rehearsal, open_session

TICK_S = 0.2
STILL_S = 3.0  # between two pictures of a run in which nothing moves but its cost
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. `left`: what may still cost money."""

    run: str
    outcome: Outcome
    left: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """7 > 6 > 5 > 4 > 3 > 0."""
        return ExitCode.STILL_RUNNING if self.left else self.outcome.exit_code


def first_row(spec: RunSpec) -> RunRow:
    """What the ledger says of a run that has not begun."""
    return RunRow(
        id=spec.run, state=RunState.PLANNED, dry_run=spec.world.dry_run, version=APPLICATION_VERSION,
        created_at=spec.created_at,
    )  # fmt: skip


class Quiet:
    """A view that never fails: a closed terminal or a broken pipe must not end the run's driver."""

    def __init__(self, view: View) -> None:
        self._view: View | None = view

    def update(self, seen: Snapshot) -> None:
        """Show it, if anybody still looks."""
        self._try(lambda view: view.update(seen))

    def log(self, step: str, line: str) -> None:
        """Show it, if anybody still looks."""
        self._try(lambda view: view.log(step, line))

    def progress(self, step: str, text: str) -> None:
        """Show it, if anybody still looks."""
        self._try(lambda view: view.progress(step, text))

    def say(self, text: str) -> None:
        """Show it, if anybody still looks."""
        self._try(lambda view: view.say(text))

    def confirm(self, question: str, given_up: Callable[[], bool]) -> bool:
        """Ask, if anybody still looks. False: no, or nobody does."""
        answers: list[bool] = []
        self._try(lambda view: answers.append(view.confirm(question, given_up)))
        return answers == [True]

    def _try(self, show: Callable[[View], None]) -> None:
        if self._view is not None:
            try:
                show(self._view)
            except Exception:  # noqa: BLE001  whoever looked has gone; the run goes on to its end
                self._view = None


def drive(home: Home, spec: RunSpec, view: View, *, attended: bool) -> Result:
    """Begin the run, or take up what a dead process left of it, and bring it to its end.

    `attended`: somebody at the terminal will answer a question.
    """
    folder = home.run_folder(spec.run)
    with home.lock(spec.run) as mine:
        if not mine:
            raise UsageError(
                f"another process is driving {spec.run}",
                remedy=f"gpuplan logs -f {spec.run} looks on; gpuplan down ends it",
            )
        view = Quiet(view)
        _take_up(home, spec)
        session = open_session(home, spec, view.log, lambda step, said: view.progress(step, how_far(said)))
        session.context.control.attended = attended
        try:
            return _drive(session, spec, view, folder / "debug.log")
        finally:
            session.close()
            close_rehearsal(spec, session.rehearsal)


def _take_up(home: Home, spec: RunSpec) -> None:
    """This process drives the run from now on: what stopped it before does so no more, what is asked now does.

    StillRunning when another version of gpuplan began it: its recorded effects cannot be replayed.
    """
    ledger = open_ledger(home.path, home.database_url, home.timeline)
    row = ledger.runs.maybe(id=spec.run)
    if row is None or row.state == RunState.PLANNED:
        open_books(ledger, spec, first_row(spec))  # for the first time, or again after a crash before the run began
    elif row.version != APPLICATION_VERSION:
        raise StillRunning(
            f"{spec.run} was begun by another version of gpuplan, which alone can go on with it",
            remedy=f"gpuplan down {spec.run} ends it; what is done stays on the volume for the next run",
        )
    ledger.runs.change({"id": spec.run}, stop="", pid=os.getpid())
    ledger.close()
    reserve(home.run_folder(spec.run))


def _drive(session: Session, spec: RunSpec, view: Quiet, debug_log: Path) -> Result:
    from orchestrator.engine.watchdog import Watchdog

    context = session.context
    watch = Watch(context.clock, context.control, Limits(context.ledger, spec, context.clock).reason)
    watchdog = Watchdog(context)
    ended: list[RunEnd | Exception] = []

    def bring_to_its_end() -> None:
        try:
            ended.append(_story(context, debug_log))
        except Exception as error:  # noqa: BLE001  it is raised again in the main thread
            ended.append(error)

    worker = threading.Thread(target=bring_to_its_end, daemon=True, name="run")
    with stopping_on_signals(context.control.stop, view.say):
        worker.start()
        shown, due = -1, 0.0
        while worker.is_alive():
            if context.ledger.writes != shown or context.clock.monotonic() >= due:
                shown, due = context.ledger.writes, context.clock.monotonic() + STILL_S
                _show(view, context)
            if question := context.control.question:
                context.control.answer(view.confirm(question, lambda: context.control.stopping))
            worker.join(TICK_S)
        watch.end()
        watchdog.end()
        _show(view, context)
    (end,) = ended
    if isinstance(end, Exception):
        context.control.stop("interrupted", "the engine failed")
        return _broken(context, end)
    return Result(spec.run, end.outcome, end.left)


def _story(context: Context, debug_log: Path) -> RunEnd:
    """Bring the run to its end; what is left of one that was at its end before is ended anew.

    A replay only repeats what was recorded then.
    """
    from orchestrator.engine.durable import DurableRun, has_ended
    from orchestrator.engine.story import Story

    story, url = Story(context), context.ledger.url
    before = context.ledger.runs.get(id=context.run).state
    if before != RunState.PLANNED and has_ended(context.run, database_url=url):
        return story.ending.again()
    durable = DurableRun(story, context.run, database_url=url, debug_log=debug_log)
    try:
        end = durable.start().result()
    finally:
        durable.close()
    return story.ending.again() if before == RunState.TEARING_DOWN and end.left else end


def _show(view: Quiet, context: Context) -> None:
    """The picture of this moment; a ledger that is busy has another one in the next."""
    with contextlib.suppress(Exception):
        view.update(snapshot(context.ledger, context.run, context.spec.plan.settings.budget_usd))


def _broken(context: Context, error: Exception) -> Result:
    """The engine itself failed (a full disk, say). StillRunning if anything was made, else GpuplanError."""
    run = context.run
    machines, volumes = context.ledger.machines.all(run=run), context.ledger.volumes.all(run=run)
    living = [row.name for row in machines if not row.state.is_final]
    living += [row.name for row in volumes if not row.state.is_final]
    if not living:
        raise GpuplanError(f"internal error: {error}") from error
    raise StillRunning(
        f"internal error: {error}; {end_unwritten(context)}; the ledger has as living: {', '.join(living)}",
        remedy=f"gpuplan down {run} ends what is left; if the disk is full, make room first",
    ) from error


def end_by_name(home: Home, spec: RunSpec) -> str:
    """End a run's machines at the provider, beside a process that does not or without a ledger; say what was done."""
    session = open_session(home, spec, lambda _step, _text: None)
    try:
        return end_unwritten(session.context)
    finally:
        session.close()


def end_run(home: Home, spec: RunSpec, *, volumes: bool) -> list[str]:
    """End what a run left, without the durable engine; the caller holds its lock. Return what could not be ended."""
    from orchestrator.engine.durable import give_up
    from orchestrator.engine.ending import Ending
    from orchestrator.engine.machines import Machines
    from orchestrator.engine.volumes import Volumes

    session = open_session(home, spec, lambda _step, _text: None)
    context = session.context
    try:
        give_up(spec.run, database_url=context.ledger.url)
        made = Volumes(context)
        ending = Ending(context, Machines(context), made)
        left = ending.end_machines("gpuplan down")
        rows = [row for row in accounting.living_volumes(context.ledger, spec) if row.provider == spec.world.provider]
        for row in rows:
            if volumes or row.state == VolumeState.DESTROYING:  # one that was begun is finished
                end = made.destroy(row.name)
                left += [f"{row.name} ({end.why})"] if isinstance(end, NotGone) else []
        ending.settle()
        if not left:
            close_books(context.ledger, spec.run)
        return left
    finally:
        session.close()
        close_rehearsal(spec, session.rehearsal)


@contextmanager
def stopping_on_signals(stop: Callable[[Why, str], bool], say: Callable[[str], None]) -> Iterator[None]:
    """Turn Ctrl-C and its like into a flag: nothing is raised anywhere, and a second one changes nothing.

    Afterwards they are ignored: what is left to do is to say how it ended, with the exit code that says so too.
    """

    def handle(number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        if stop("interrupted", f"stopped by {'Ctrl-C' if number == signal.SIGINT else name}"):
            say("stopping: running steps are ended, then every machine (once more changes nothing)")
        else:
            say("still ending the machines: nothing may be left running")

    wanted = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup's wish is respected
    for number in wanted:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in wanted:
            signal.signal(number, signal.SIG_IGN)
