"""The view where there is no terminal: one line for each thing that happens, so that a log reads from top to bottom."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TextIO

from orchestrator.report.console import confirm, event_lines, indented, one_line
from orchestrator.report.figures import elapsed, money, spoken
from orchestrator.report.snapshot import MachineLine, NewEvents, PhaseLine, Snapshot, StepLine
from orchestrator.words.lifecycle import StepState
from orchestrator.words.outside import escape
from orchestrator.words.secret import hide

_KEPT_LINES = 10
_KEPT_RAW = 4 * _KEPT_LINES  # lines as they came: some turn out to show nothing
_LONGEST_RAW = 4096  # characters; a longer one is cleaned at once, and cut
_LONGEST_SHOWN = 500
_STILL_RUNNING_S = 60.0
_ENDINGS_WITH_LOG = frozenset({StepState.FAILED, StepState.LOST, StepState.INTERRUPTED})


class PlainView:
    """Writes `12:03:04 day2-3/convert-glm  running` to `out` whenever a run, phase, step or machine moves.

    The last lines of a step's output follow when it fails; a step that runs on says so once a minute.
    """

    def __init__(self, out: TextIO, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._out = out
        self._now = now
        self._lock = threading.Lock()
        self._said: dict[str, str] = {}
        self._moved: dict[str, datetime] = {}
        self._logs: dict[str, deque[str]] = {}  # raw: only what is shown is cleaned
        self._sayings: deque[str] = deque()
        self._progress: dict[str, str] = {}  # where it is newer than the log
        self._events = NewEvents()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._write_sayings()

    def update(self, snapshot: Snapshot) -> None:
        """Write what is new since the last update."""
        with self._lock:
            for text in self._events.of(snapshot):
                first, *more = event_lines(text)
                self._write(first)
                for line in more:
                    self._out.write(f"         {line}\n")
            self._note(f"run {snapshot.run}", spoken(snapshot.state), money(snapshot.cost_usd))
            for phase in snapshot.phases:
                self._phase(phase)
            for machine in snapshot.machines:
                self._machine(machine)
            self._write_sayings()

    def log(self, step: str, line: str) -> None:
        """Keep the step's last lines, in case it fails."""
        newest = line.rsplit("\n", _KEPT_RAW)[-_KEPT_RAW:]
        raw = [_shown(part) if len(part) > _LONGEST_RAW else part for part in newest if part and not part.isspace()]
        with self._lock:
            self._logs.setdefault(step, deque(maxlen=_KEPT_RAW)).extend(raw)
            if raw:
                self._progress.pop(step, None)

    def progress(self, step: str, text: str) -> None:
        """Keep how far the step is, for its line a minute, until it prints something."""
        with self._lock:
            self._progress[step] = _shown(text)

    def say(self, text: str) -> None:
        """Write a line of its own. In a signal's handler it may come in the middle of another: it follows that one."""
        self._sayings.append(text)
        if self._lock.acquire(blocking=False):
            try:
                self._write_sayings()
            finally:
                self._lock.release()

    def confirm(self, question: str, given_up: Callable[[], bool]) -> bool:
        """Ask in a line of its own."""
        return confirm(self._out, question, given_up)

    def _phase(self, phase: PhaseLine) -> None:
        if phase.state != "PLANNED":
            outcome = spoken(phase.outcome) if phase.outcome else ""
            self._note(phase.name, f"{spoken(phase.state)} {outcome}".rstrip(), one_line(phase.detail))
        for step in phase.steps:
            if step.state != StepState.PENDING:
                self._step(step.name if "/" in step.name else f"{phase.name}/{step.name}", step)

    def _step(self, name: str, step: StepLine) -> None:
        took = elapsed(step.started, step.ended, self._now()) if step.ended else ""
        changed = self._note(name, spoken(step.state), took, one_line(step.detail))
        if changed and step.state in _ENDINGS_WITH_LOG:
            for line in self._last_lines(step.id):
                self._out.write(f"         | {hide(line)}\n")
        elif not changed and step.state == StepState.RUNNING:
            self._still(name, step)
        if step.ended:
            self._logs.pop(step.id, None)

    def _still(self, name: str, step: StepLine) -> None:
        now = self._now()
        if (now - self._moved[name]).total_seconds() >= _STILL_RUNNING_S:
            self._moved[name] = now
            last = self._progress.get(step.id) or next(reversed(self._last_lines(step.id)), "")
            self._write("  ".join(filter(None, [name, f"running {elapsed(step.started, None, now)}", last])))

    def _machine(self, machine: MachineLine) -> None:
        price = f"{money(machine.price_hour)}/h" if machine.price_hour is not None else ""
        self._note(f"machine {machine.name}", machine.state.lower(), machine.what, price, one_line(machine.detail))

    def _note(self, name: str, state: str, *rest: str) -> bool:
        """Write the line if the state is another one than was said last; return whether it was."""
        if self._said.get(name) == state:
            return False
        self._said[name] = state
        self._moved[name] = self._now()
        self._write("  ".join(filter(None, [name, state, *rest])))
        return True

    def _last_lines(self, step: str) -> list[str]:
        """The step's last lines, cleaned."""
        shown = [_shown(line) for line in self._logs.get(step, ())]
        return [line for line in shown if line][-_KEPT_LINES:]

    def _write_sayings(self) -> None:
        while self._sayings:
            self._write(self._sayings.popleft())
        self._out.flush()

    def _write(self, text: str) -> None:
        self._out.write(f"{self._now().astimezone():%H:%M:%S} {indented(escape(hide(text)))}\n")


def _shown(line: str) -> str:
    return one_line(line)[:_LONGEST_SHOWN]
