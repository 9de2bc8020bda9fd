"""The view where there is no terminal: a line for each thing that a person wants to know, read from top to bottom.

13:50:20 day2-3  A100 80GB in EU-RO-1 rented, $1.79/h
13:50:21 day2-3  up after 1s
13:50:27 day2-3  succeeded, 7.5s, $0.00371; machine gone
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TextIO

from orchestrator.report import header, milestones
from orchestrator.report.console import confirm, event_lines, indented, one_line
from orchestrator.report.figures import elapsed
from orchestrator.report.milestones import Milestone, Milestones
from orchestrator.report.snapshot import NewEvents, PhaseLine, Snapshot, StepLine, TransferLine
from orchestrator.words.lifecycle import StepState
from orchestrator.words.outside import escape
from orchestrator.words.secret import hide

_KEPT_LINES = 10
_KEPT_RAW = 4 * _KEPT_LINES  # lines as they came: some turn out to show nothing
_LONGEST_RAW = 4096  # characters; a longer one is cleaned at once, and cut
_LONGEST_SHOWN = 500
_WIDEST = 119  # cells of a line, but for what others wrote
_STILL_RUNNING_S = 60.0
_TOGETHER_S = 5.0  # steps that end so soon after one another share a line


class PlainView:
    """Writes to `out` what a person wants to know: machines, the ends of steps and phases, transfers, trouble.

    The last lines of a step's output follow when it fails; of a step that runs on, and of files on their way, there is
    a line a minute.
    """

    def __init__(self, out: TextIO, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._out = out
        self._now = now
        self._lock = threading.Lock()
        self._milestones = Milestones()
        self._ended: list[Milestone] = []  # steps that will share a line
        self._since: datetime | None = None  # when the first of them did
        self._spoke: dict[str, datetime] = {}  # step id, or a transfer -> when its last line was
        self._logs: dict[str, deque[str]] = {}  # raw: only what is shown is cleaned
        self._sayings: deque[str] = deque()
        self._progress: dict[str, str] = {}
        self._events = NewEvents()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._write_ended()
            self._write_sayings()

    def update(self, snapshot: Snapshot) -> None:
        """Write what is new since the last update."""
        with self._lock:
            for text in self._events.of(snapshot):
                first, *more = event_lines(text)
                self._write(first)
                for line in more:
                    self._out.write(f"         {line}\n")
            for found in self._milestones.of(snapshot, self._now()):
                self._milestone(found)
            for phase in snapshot.phases:
                for step in phase.steps:
                    self._still(phase, step)
            for moving in snapshot.transfers:
                self._on_its_way(moving)
            if self._since and (self._now() - self._since).total_seconds() >= _TOGETHER_S:
                self._write_ended()
            self._write_sayings()

    def log(self, step: str, line: str) -> None:
        """Keep the step's last lines, in case it fails."""
        newest = line.rsplit("\n", _KEPT_RAW)[-_KEPT_RAW:]
        raw = [_shown(part) if len(part) > _LONGEST_RAW else part for part in newest if part and not part.isspace()]
        with self._lock:
            self._logs.setdefault(step, deque(maxlen=_KEPT_RAW)).extend(raw)

    def progress(self, step: str, text: str) -> None:
        """Keep how far the step is, for its line a minute."""
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

    def _milestone(self, found: Milestone) -> None:
        if found.kind == milestones.STEP_ENDED and found.good:
            if self._ended and self._ended[0].phase != found.phase:
                self._write_ended()
            self._ended.append(found)
            self._since = self._since or self._now()
            return
        self._write(found.text)
        if found.kind == milestones.STEP_ENDED:
            for line in self._last_lines(found.step):
                self._out.write(f"         | {hide(line)}\n")

    def _write_ended(self) -> None:
        """Write the steps that ended well, as many on a line as fit."""
        ended, self._ended, self._since = self._ended, [], None
        line = ""
        for one in ended:
            longer = f"{line}, {one.brief}" if line else f"{one.phase}  done: {one.brief}"
            if line and len(longer) + len("00:00:00 ") > _WIDEST:
                self._line(line)
                longer = f"{one.phase}  done: {one.brief}"
            line = longer
        if line:
            self._line(line)

    def _still(self, phase: PhaseLine, step: StepLine) -> None:
        """Once a minute, that a step runs on."""
        if step.ended or step.state != StepState.RUNNING or step.started is None:
            self._spoke.pop(step.id, None)
            if step.ended:
                self._logs.pop(step.id, None)
                self._progress.pop(step.id, None)
            return
        now = self._now()
        if not self._minute_is_over(step.id, now):
            return
        last = next(reversed(self._last_lines(step.id)), "")
        running = f"{step.name} running {elapsed(step.started, None, now)}"
        said = "  ".join(filter(None, [phase.name, running, step.attempt, self._progress.get(step.id, ""), last]))
        self._write(said if len(said) <= _WIDEST - 9 else f"{said[: _WIDEST - 10]}…")

    def _on_its_way(self, line: TransferLine) -> None:
        """Once a minute, how far files are that are still to come."""
        key, now = f"{line.kind} {line.phase} {line.place}", self._now()
        if line.ended or line.files_done == line.files:
            self._spoke.pop(key, None)
        elif self._minute_is_over(key, now):
            self._write(f"{line.phase}  {header.transfer(line, now)}")

    def _minute_is_over(self, what: str, now: datetime) -> bool:
        """Whether nothing was said of it for so long; the next minute begins then."""
        if (now - self._spoke.setdefault(what, now)).total_seconds() < _STILL_RUNNING_S:
            return False
        self._spoke[what] = now
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
        self._write_ended()
        self._line(text)

    def _line(self, text: str) -> None:
        self._out.write(f"{self._now().astimezone():%H:%M:%S} {indented(escape(hide(text)))}\n")


def _shown(line: str) -> str:
    return one_line(line)[:_LONGEST_SHOWN]
