"""Drives one run in this process: its lock, its signals, its view, and the words and exit code at its end."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from orchestrator.engine.books import open_books
from orchestrator.engine.context import Context
from orchestrator.engine.control import Watch
from orchestrator.engine.effects import RunEnd
from orchestrator.engine.leftovers import end_unwritten, reserve
from orchestrator.engine.limits import Limits
from orchestrator.engine.version import APPLICATION_VERSION
from orchestrator.ledger import Ledger, is_busy
from orchestrator.ledger.rows import RunRow
from orchestrator.report.figures import how_far
from orchestrator.report.safe_view import SafeView
from orchestrator.report.snapshot import View
from orchestrator.report.views import snapshot
from orchestrator.words import disk
from orchestrator.words.errors import DatabaseBusy, ExitCode, GpuplanError, StillRunning, UsageError, plainly
from orchestrator.words.lifecycle import Outcome, RunState
from orchestrator.words.spec import RunSpec
from orchestrator.world.contention import GIVE_UP_S, LOOK_S, DatabaseWatch
from orchestrator.world.opening import open_run
from orchestrator.world.signals import stopping_on_signals
from orchestrator.world.world import Observer, World

TICK_S = 0.2
STILL_S = 3.0  # between two pictures of a run in which nothing moves but its cost


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. `left`: what may still cost money; `unfired`: disasters that were asked for and never came.

    `unshown`: deliverables that should have been shown.
    """

    outcome: Outcome
    left: tuple[str, ...]
    unfired: tuple[str, ...] = ()
    unshown: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """7 > 6 > 5 > 4 > 3 > 0. A rehearsal of a disaster that never came has not shown what it was to show."""
        least = ExitCode.FAILED if self.unshown or self.unfired else ExitCode.DONE
        return ExitCode.STILL_RUNNING if self.left else max(self.outcome.exit_code, least)


def first_row(spec: RunSpec) -> RunRow:
    """What the ledger says of a run that has not begun."""
    return RunRow(
        id=spec.run, state=RunState.PLANNED, dry_run=spec.world.dry_run, version=APPLICATION_VERSION,
        created_at=spec.created_at, tags=",".join(spec.tags), plan=spec.plan.name,
    )  # fmt: skip


def drive(world: World, spec: RunSpec, view: View, *, attended: bool, give_up_s: float = GIVE_UP_S) -> Result:
    """Begin the run, or take up what a dead process left of it, and bring it to its end.

    `attended`: somebody at the terminal will answer a question. DatabaseBusy: another process held our database for
    `give_up_s`; nothing was ended for it, and the run can be taken up again, as after a kill.
    """
    with world.home.lock(spec.run) as mine:
        if not mine:
            remedy = f"gpuplan logs -f {spec.run} looks on; gpuplan down ends it"
            raise UsageError(f"another process is driving {spec.run}", remedy=remedy)
        with _left_alone(world.ledger, spec.run):
            _take_up(world, spec)
            return _bring_to_its_end(world, spec, SafeView(view), mine, attended=attended, give_up_s=give_up_s)


def _take_up(world: World, spec: RunSpec) -> None:
    """This process drives the run from now on: what stopped it before does so no more, what is asked now does.

    StillRunning when another version of gpuplan began it: its recorded effects cannot be replayed.
    """
    ledger, row = world.ledger, world.ledger.runs.maybe(id=spec.run)
    if row is None or row.state == RunState.PLANNED:
        open_books(ledger, spec, first_row(spec))  # for the first time, or again after a crash before the run began
    elif row.version != APPLICATION_VERSION:
        raise StillRunning(
            f"{spec.run} was begun by another version of gpuplan, which alone can go on with it",
            remedy=f"gpuplan down {spec.run} ends it; what is done stays on the volume for the next run",
        )
    ledger.runs.change({"id": spec.run}, stop="", pid=os.getpid())
    reserve(world.home.run_folder(spec.run))


def _bring_to_its_end(
    world: World, spec: RunSpec, view: SafeView, holds: Callable[[], bool], *, attended: bool, give_up_s: float
) -> Result:
    from orchestrator.engine.watchdog import Watchdog

    watching = Observer(log=view.log, progress=lambda step, said: view.progress(step, how_far(said)))
    opened = open_run(world, spec, watching, ledger=world.home.open_ledger(math.inf))
    context, control = opened.context, opened.context.control
    control.attended = attended
    looked = world.home.open_ledger(min(LOOK_S, give_up_s / 2))
    database = DatabaseWatch(looked, world.clock, view.say, give_up_s=give_up_s, holds=holds)
    guarded = replace(context, ledger=looked)  # whoever guards the money is not to wait as the effects do
    limits = Limits(looked, spec, world.clock)
    lookers_on = (database, Watch(world.clock, control, limits.reason), Watchdog(guarded))
    story = _InThread(context)
    with stopping_on_signals(control.stop, view.say):
        shown, due = -1, 0.0
        while story.thread.is_alive() and not database.given_up:
            if context.ledger.writes != shown or world.clock.monotonic() >= due:
                shown, due = context.ledger.writes, world.clock.monotonic() + STILL_S
                _show(view, looked, spec)
            if question := control.question:
                control.answer(view.confirm(question, lambda: control.stopping))
            story.thread.join(TICK_S)
    if database.given_up:
        raise database.given_up  # and all stays as it is: threads that wait for the database end with the process
    for one in lookers_on:
        one.end()
    _show(view, looked, spec)
    if isinstance(story.end, Exception) and is_busy(story.end):
        raise DatabaseBusy(f"the database is held by another process: {looked.where}")
    try:
        return replace(_result(guarded, story.end), unfired=world.unfired())
    finally:
        opened.close()
        for ledger in (context.ledger, looked):
            ledger.close()
        world.leave(spec.run)


class _InThread:
    """The story in a thread of its own: nothing is raised into it, and the main thread is free for signals."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.end: RunEnd | Exception = GpuplanError("it has not ended")
        self.thread = threading.Thread(target=self._run, daemon=True, name="run")
        self.thread.start()

    def _run(self) -> None:
        try:
            self.end = _story(self._context)
        except Exception as error:  # noqa: BLE001  it is told in the main thread
            self.end = error


def _result(context: Context, end: RunEnd | Exception) -> Result:
    """How the story ended. StillRunning, GpuplanError: the engine itself failed (a full disk, say)."""
    if isinstance(end, RunEnd):
        unshown = 0 if context.spec.world.dry_run else len(context.ledger.deliverables.all(run=context.run, ok=None))
        return Result(end.outcome, end.left, unshown=unshown)
    context.control.stop("interrupted", "the engine failed")
    living = _living(context.ledger, context.run)
    if not living and (why := disk.trouble(end)):
        raise UsageError(
            f"{why}; nothing is running", remedy="make room there, or have it writable, and go on"
        ) from end
    if not living:
        raise GpuplanError(f"internal error: {plainly(str(end))}") from end
    raise StillRunning(
        f"internal error: {plainly(str(end))}; {end_unwritten(context)}; the ledger has as living: {', '.join(living)}",
        remedy=f"gpuplan down {context.run} ends what is left; if the disk is full, make room first",
    ) from end


def _story(context: Context) -> RunEnd:
    """Bring the run to its end; what is left of one that was at its end before is ended anew.

    A replay only repeats what was recorded then.
    """
    from orchestrator.engine.durable import DurableRun, has_ended
    from orchestrator.engine.story import Story

    story, url = Story(context), context.ledger.url
    before, run = context.ledger.runs.get(id=context.run).state, context.run
    if before != RunState.PLANNED and has_ended(run, database_url=url):
        return story.ending.again()
    durable = DurableRun(story, run, database_url=url, debug_log=context.folder / "debug.log")
    try:
        end = durable.start().result()
    finally:
        durable.close()
    return story.ending.again() if before == RunState.TEARING_DOWN and end.left else end


def _show(view: SafeView, ledger: Ledger, spec: RunSpec) -> None:
    """The picture of this moment; a ledger that is busy has another one in the next."""
    with contextlib.suppress(Exception):
        view.update(snapshot(ledger, spec))


@contextlib.contextmanager
def _left_alone(ledger: Ledger, run: str) -> Iterator[None]:
    """Our own database cannot be had: nothing is ended for it, the run is as a killed one's, and this is said."""
    try:
        yield
    except DatabaseBusy as error:
        living = ["what it cannot be asked for"]
        with contextlib.suppress(DatabaseBusy):
            living = _living(ledger, run)
        costs = f"left to end by itself: {', '.join(living)}" if living else "no machine is left"
        raise DatabaseBusy(
            f"{error.message}; {costs}",
            remedy=f"free it; then gpuplan resume {run} goes on where it was, gpuplan down {run} ends it",
            may_cost=bool(living),
        ) from error


def _living(ledger: Ledger, run: str) -> list[str]:
    """Its machines and volumes that may still cost money."""
    machines, volumes = ledger.machines.all(run=run), ledger.volumes.all(run=run)
    return [m.name for m in machines if not m.state.is_final] + [v.name for v in volumes if not v.state.is_final]
