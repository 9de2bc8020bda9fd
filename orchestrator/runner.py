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
from typing import Any

import sqlalchemy as sa

from orchestrator.engine import accounting
from orchestrator.engine.context import Context, now
from orchestrator.engine.control import Watch
from orchestrator.engine.version import APPLICATION_VERSION
from orchestrator.ledger import Ledger, open_ledger, tables
from orchestrator.plan import resolve
from orchestrator.report.snapshot import Snapshot, View
from orchestrator.report.views import snapshot
from orchestrator.report.words import how_far
from orchestrator.words.errors import ExitCode, GpuplanError, StillRunning, UsageError
from orchestrator.words.lifecycle import ENDED, MachineState, Outcome, PhaseState, RunState, StepState
from orchestrator.words.spec import RunSpec
from orchestrator.world.home import Home
from orchestrator.world.session import Session, close_rehearsal, open_session

TICK_S = 0.2
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


def open_books(ledger: Ledger, spec: RunSpec) -> None:
    """Write the run, its phases and its steps down, all still to do: all of it, or after a crash nothing."""
    run = {
        "id": spec.run, "state": str(RunState.PLANNED), "outcome": None, "dry_run": int(spec.world.dry_run),
        "error": "", "stop": "", "version": APPLICATION_VERSION, "created_at": spec.created_at, "settled": 0, "pid": 0,
    }  # fmt: skip
    rows: list[tuple[sa.Table, dict[str, Any]]] = [(tables.runs, run)]
    for position, phase in enumerate(resolve(spec.plan, spec.asked)):
        name = phase.phase.name
        key = {"run": spec.run, "name": name, "position": position, "state": str(PhaseState.PLANNED)}
        rows.append((tables.phases, {**key, "outcome": None, "error": ""}))
        for number, step in enumerate(phase.steps):
            row = {"run": spec.run, "phase": name, "id": step.id, "position": number, "state": str(StepState.PENDING)}
            rows.append((tables.steps, {**row, "attempt": 0, "machines": "", "detail": ""}))
    ledger.put_all(rows)


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
    ledger = open_ledger(home.path, home.database_url)
    row = ledger.maybe(tables.runs, id=spec.run)
    if row is None or row["state"] == RunState.PLANNED:
        open_books(ledger, spec)  # for the first time, or again after a crash before the run began
    elif row["version"] != APPLICATION_VERSION:
        raise StillRunning(
            f"{spec.run} was begun by another version of gpuplan, which alone can go on with it",
            remedy=f"gpuplan down {spec.run} ends it; what is done stays on the volume for the next run",
        )
    ledger.change(tables.runs, {"id": spec.run}, stop="", pid=os.getpid())
    ledger.close()


def _drive(session: Session, spec: RunSpec, view: Quiet, debug_log: Path) -> Result:
    from orchestrator.engine.durable import DurableRun
    from orchestrator.engine.story import Story
    from orchestrator.engine.watchdog import Watchdog

    context = session.context
    durable = DurableRun(Story(context), spec.run, database_url=context.ledger.url, debug_log=debug_log)
    watch = Watch(context.control, lambda: reason_to_stop(context.ledger, spec))
    watchdog = Watchdog(context)
    ended: dict[str, Any] = {}

    def wait() -> None:
        try:
            ended.update(durable.start().result())
        except Exception as error:  # noqa: BLE001  it is raised again in the main thread
            ended["error"] = error

    worker = threading.Thread(target=wait, daemon=True, name="run")
    with stopping_on_signals(context.control.stop, view.say):
        watch.start()
        watchdog.start()
        worker.start()
        while worker.is_alive():
            _show(view, context)
            if question := context.control.question:
                context.control.answer(view.confirm(question, lambda: context.control.stopping))
            worker.join(TICK_S)
        watch.end()
        watchdog.end()
        _show(view, context)
        durable.close()
    if "error" in ended:
        context.control.stop("interrupted", "the engine failed")
        return _broken(context, ended["error"])
    return Result(spec.run, Outcome(ended["outcome"]), tuple(ended["left"]))


def _show(view: Quiet, context: Context) -> None:
    """The picture of this moment; a ledger that is busy has another one in the next."""
    with contextlib.suppress(Exception):
        view.update(snapshot(context.ledger, context.run, context.spec.plan.settings.budget_usd))


def _broken(context: Context, error: Exception) -> Result:
    """The engine itself failed (a full disk, say). StillRunning if anything was made, else GpuplanError."""
    run = context.run
    rows = [*context.ledger.all(tables.machines, run=run), *context.ledger.all(tables.volumes, run=run)]
    living = [str(row["name"]) for row in rows if row["state"] not in ENDED]
    if not living:
        raise GpuplanError(f"internal error: {error}") from error
    raise StillRunning(
        f"internal error: {error}; {_last_resort(context)}; the ledger has as living: {', '.join(living)}",
        remedy=f"gpuplan down {run} ends what is left; if the disk is full, make room first",
    ) from error


def _last_resort(context: Context) -> str:
    """End the run's machines at the provider, though nothing of it can be written down; return what was done."""
    from orchestrator.engine import reaper
    from orchestrator.engine.machines import each

    try:
        ids = {v.name: v.id for v in context.provider.machines() if v.name.startswith(context.spec.prefix)}
    except GpuplanError as error:
        return f"{context.provider.name} could not be asked: {error.message}"
    ends = each(list(ids), lambda name: {"why": reaper.end_machine(context.provider, context.clock, ids[name])})
    said = [f"{n} was not ended ({end['why']})" if end["why"] else f"{n} was ended" for n, end in ends.items()]
    return "; ".join(said) or f"{context.provider.name} lists no machine of this run"


def end_by_name(home: Home, spec: RunSpec) -> str:
    """End a run's machines at the provider, beside a process that does not or without a ledger; say what was done."""
    session = open_session(home, spec, lambda _step, _text: None)
    try:
        return _last_resort(session.context)
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
        left = ending.machines("gpuplan down")
        rows = [r for r in accounting.living_volumes(context.ledger, spec) if r["provider"] == spec.world.provider]
        rows = [r for r in rows if volumes or r["state"] == MachineState.DESTROYING]  # one that was begun is finished
        if rows:
            ends = {str(r["name"]): made.destroy(str(r["name"])) for r in rows}
            left += [f"{name} ({end['why']})" for name, end in ends.items() if not end["gone"]]
        ending.settle()
        if not left:
            _close_books(context.ledger, spec.run)
        return left
    finally:
        session.close()
        close_rehearsal(spec, session.rehearsal)


def _close_books(ledger: Ledger, run: str) -> None:
    """Mark everything of the run as ended; a run that was under way was interrupted."""
    for step in ledger.all(tables.steps, run=run):
        if step["state"] in (StepState.PENDING, StepState.RUNNING, StepState.READY):
            state = StepState.SKIPPED if step["state"] == StepState.PENDING else StepState.INTERRUPTED
            key = {"run": run, "phase": step["phase"], "id": step["id"]}
            ledger.change(tables.steps, key, state=str(state), ended_at=now())
    for phase in ledger.all(tables.phases, run=run):
        key = {"run": run, "name": phase["name"]}
        outcome = phase["outcome"] or str(Outcome.INTERRUPTED)
        ledger.move(tables.phases, key, PhaseState.TEARING_DOWN, outcome=outcome)
        ledger.move(tables.phases, key, PhaseState.DONE, ended_at=phase["ended_at"] or now())
    outcome = ledger.one(tables.runs, id=run)["outcome"] or str(Outcome.INTERRUPTED)
    ledger.move(tables.runs, {"id": run}, RunState.TEARING_DOWN, outcome=outcome)
    ledger.move(tables.runs, {"id": run}, RunState.DONE, ended_at=now())


@contextmanager
def stopping_on_signals(stop: Callable[[str, str], bool], say: Callable[[str], None]) -> Iterator[None]:
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


def reason_to_stop(ledger: Ledger, spec: RunSpec) -> tuple[str, str] | None:
    """Why the run is to stop now: somebody asked, a budget is used up, a phase takes too long; None: it may go on."""
    row = ledger.one(tables.runs, id=spec.run)
    if row["stop"]:
        return "interrupted", str(row["stop"])
    budget = spec.plan.settings.budget_usd
    if budget is not None and (spent := accounting.accrued_with_earlier(ledger, spec.run)) > budget:
        return "over_budget", f"${spent:.4f} are spent, the budget is ${budget}"
    for phase in ledger.all(tables.phases, run=spec.run):
        if phase["state"] not in (PhaseState.PROVISIONING, PhaseState.RUNNING, PhaseState.COLLECTING):
            continue
        limits = spec.plan.phase(phase["name"])
        spent = accounting.accrued_with_earlier(ledger, spec.run, phase["name"])
        if limits.budget_usd is not None and spent > limits.budget_usd:
            return "over_budget", f"{phase['name']}: ${spent:.4f} are spent, its budget is ${limits.budget_usd}"
        if phase["started_at"] and now() - phase["started_at"] > limits.timeout:
            return "failed", f"{phase['name']} took longer than its time-out of {limits.timeout:.0f} s"
    return None
