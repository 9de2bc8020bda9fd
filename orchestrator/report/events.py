"""A run's events for another program: one JSON document a line (`gpuplan run --json-events FILE`)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TextIO

from orchestrator.report.milestones import Milestones
from orchestrator.report.snapshot import NewEvents, Snapshot, TransferLine, View
from orchestrator.words.secret import hide


class EventsView:
    """Another view, with its events written to `out` as well. Each line has `at` (ISO 8601), `event` and `run`.

    `state`: a run, phase, step or machine has another state; `transfer`: how far files are; `note`: what was said;
    the kinds of milestones: what a person is told, as text.
    """

    def __init__(self, view: View, out: TextIO, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._view, self._out, self._now = view, out, now
        self._lock = threading.Lock()
        self._states: dict[tuple[str, str], str] = {}
        self._transfers: dict[tuple[str, str, str], TransferLine] = {}
        self._milestones, self._events = Milestones(), NewEvents()
        self._run = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()

    def update(self, snapshot: Snapshot) -> None:
        """Write what is new since the last picture."""
        with self._lock:
            self._run = snapshot.run
            for text in self._events.of(snapshot):
                self._write("note", text=text)
            self._state("run", snapshot.run, snapshot.state, usd=str(snapshot.cost_usd))
            for machine in snapshot.machines:
                usd_hour = str(machine.price_hour) if machine.price_hour is not None else None
                self._state("machine", machine.long or machine.name, machine.state, called=machine.name,
                            phase=machine.phase, usd_hour=usd_hour)  # fmt: skip
            for phase in snapshot.phases:
                self._state("phase", phase.name, phase.state, outcome=phase.outcome, usd=str(phase.usd))
                for step in phase.steps:
                    self._state("step", f"{phase.name}:{step.id}", step.state, phase=phase.name, step=step.id,
                                attempt=step.tries, detail=step.detail)  # fmt: skip
            for line in snapshot.transfers:
                self._transfer(line)
            for one in self._milestones.of(snapshot, self._now()):
                self._write(one.kind, phase=one.phase, text=one.text, ok=one.good)
        self._view.update(snapshot)

    def log(self, step: str, line: str) -> None:
        """See View: a log has its own file."""
        self._view.log(step, line)

    def progress(self, step: str, text: str) -> None:
        """See View."""
        with self._lock:
            self._write("progress", step=step, text=text)
        self._view.progress(step, text)

    def say(self, text: str) -> None:
        """See View. It may come from a signal's handler: nothing is locked."""
        self._view.say(text)

    def confirm(self, question: str, given_up: Callable[[], bool]) -> bool:
        """See View."""
        return self._view.confirm(question, given_up)

    def _state(self, kind: str, key: str, state: str, **facts: object) -> None:
        if self._states.get((kind, key)) != state:
            self._states[kind, key] = state
            self._write("state", of=kind, name=key.rpartition(":")[2], state=state, **facts)

    def _transfer(self, line: TransferLine) -> None:
        key = (line.phase, line.kind, line.place)
        if self._transfers.get(key) != line:
            self._transfers[key] = line
            self._write(
                "transfer", phase=line.phase, kind=line.kind, place=line.place, files=line.files,
                files_done=line.files_done, bytes=line.bytes, bytes_done=line.bytes_done, bytes_s=line.rate,
                left_s=line.left_s, ended=line.ended is not None,
            )  # fmt: skip

    def _write(self, event: str, **facts: object) -> None:
        document = {"at": self._now().isoformat(timespec="milliseconds"), "event": event, "run": self._run, **facts}
        self._out.write(f"{hide(json.dumps(document))}\n")
        self._out.flush()
