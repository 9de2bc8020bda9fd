"""The view on a terminal: the run's state redrawn in place, and lines that stay above it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orchestrator.report.console import confirm, event_lines
from orchestrator.report.frame import Said, frame
from orchestrator.report.snapshot import NewEvents, Snapshot
from orchestrator.words.outside import escape

_REDRAWS_A_SECOND = 4


class LiveView:
    """Redraws a run in place, a few times a second however often it is told something. Use it in a `with` statement.

    The last picture stays on the screen, and the terminal is as it was, however the block is left.
    """

    def __init__(self, console: Console, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._console = console
        self._now = now
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._logs: dict[str, str] = {}
        self._progress: dict[str, str] = {}
        self._events = NewEvents()
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=_REDRAWS_A_SECOND)

    def __enter__(self) -> Self:
        self._live.start(refresh=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        """Show this state of the run from the next redraw on."""
        for text in self._events.of(snapshot):
            said = "\n".join(event_lines(text))
            words = Text(f"{self._now().astimezone():%H:%M:%S} {said}", style="dim")
            self._console.print(words, soft_wrap=True)  # a command in it stays whole
        with self._lock:
            self._snapshot = snapshot
            at_work = {step.id for phase in snapshot.phases for step in phase.steps if step.ended is None}
            self._logs = {step: line for step, line in self._logs.items() if step in at_work}
            self._progress = {step: how for step, how in self._progress.items() if step in at_work}

    def log(self, step: str, line: str) -> None:
        """Keep the step's last line; it is shown while the step runs."""
        if line.strip():
            with self._lock:
                self._logs[step] = line[-2000:]

    def progress(self, step: str, text: str) -> None:
        """Show how far the step is, beside its name; its last line stays below."""
        with self._lock:
            self._progress[step] = text[:500]

    def say(self, text: str) -> None:
        """Print above the picture."""
        self._console.print(Text(escape(text)), soft_wrap=True)

    def confirm(self, question: str, given_up: Callable[[], bool]) -> bool:
        """Ask below the picture, which stands still meanwhile."""
        self._live.stop()
        try:
            return confirm(self._console.file, question, given_up)
        finally:
            self._live.start(refresh=False)

    def _draw(self) -> Group:
        with self._lock:
            snapshot, said = self._snapshot, Said(dict(self._logs), dict(self._progress))
        if snapshot is None:
            return Group()
        width, height = self._console.size
        fancy = self._console.encoding.lower().startswith("utf")
        # The cursor's own line stays free: a picture of the full height would scroll at each redraw.
        return Group(*frame(snapshot, said, self._now(), width, height - 1, fancy=fancy))
