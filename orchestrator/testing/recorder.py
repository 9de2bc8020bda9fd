"""A recorder in memory: it replays as the durable engine does, and says where each effect begins and ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.engine.recorder import Branch, Story
from orchestrator.engine.recording import decode, encode
from orchestrator.words.waiting import Clock, Task

T = TypeVar("T")
Trigger = Callable[[str, str, str], None]  # as engine.durable: workflow, effect, "before" or "after" its record


@dataclass
class Records:
    """What outlives the process: for each workflow its effects in order, as text, and what it returned."""

    effects: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """WORKFLOW: EFFECT for each effect, workflow by workflow."""
        return [f"{workflow}: {name}" for workflow in sorted(self.effects) for name, _ in self.effects[workflow]]


class MemoryRecorder:
    """`engine.recorder.Recorder` for one workflow. Beginning it again with the same records replays it."""

    def __init__(
        self,
        records: Records,
        story: Story,
        clock: Clock,
        workflow: str,
        trigger: Trigger = lambda _workflow, _effect, _when: None,
    ) -> None:
        self._records, self._story, self._clock = records, story, clock
        self._workflow, self._trigger = workflow, trigger
        self._at = 0

    def record(self, name: str, body: Callable[[], T], kind: object) -> T:
        """See engine.recorder.Recorder. AssertionError: another effect stands at this place in the record."""
        mine = self._records.effects.setdefault(self._workflow, [])
        if self._at == len(mine):
            text = json.dumps(encode(name, body, kind))
            self._trigger(self._workflow, name, "before")
            mine.append((name, text))
        recorded, text = mine[self._at]
        assert recorded == name, f"{self._workflow}: the record has {recorded}, the story does {name}"
        self._at += 1
        self._trigger(self._workflow, name, "after")
        value: T = decode(json.loads(text), kind)
        return value

    def branch(self, kind: str, *arguments: str, id: str) -> Branch[Any]:  # noqa: A002  it is the workflow's id
        """See engine.recorder.Recorder."""
        child = MemoryRecorder(self._records, self._story, self._clock, id, self._trigger)
        return MemoryBranch(child, kind, arguments)

    def run(self, kind: str = "run", *arguments: str) -> Any:
        """Play this workflow to its end; one that has ended gives its result again."""
        if self._workflow not in self._records.results:
            typed = (
                [*arguments[:-1], int(arguments[-1])] if kind in ("crew", "save", "step", "stop_service") else arguments
            )
            end = getattr(self._story, kind)(self, *typed)
            self._records.results[self._workflow] = json.dumps(encode("end", lambda: end, type(end)))
            return end
        return self._ended(kind)

    def _ended(self, kind: str) -> Any:
        ends = {
            "run": "RunEnd",
            "phase": "PhaseEnd",
            "crew": "CrewEnd",
            "save": "SaveEnd",
            "step": "StepEnd",
            "stop_service": "StepEnd",
        }
        from orchestrator.engine import effects

        return decode(json.loads(self._records.results[self._workflow]), getattr(effects, ends[kind]))


class MemoryBranch:
    """A child workflow in a thread of the clock's."""

    def __init__(self, recorder: MemoryRecorder, kind: str, arguments: tuple[str, ...]) -> None:
        self._end: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._end = recorder.run(kind, *arguments)
            except BaseException as error:  # noqa: BLE001  whoever waits for the result hears of it
                self._error = error

        self._task: Task = recorder._clock.spawn(recorder._workflow, run)  # noqa: SLF001  of one module

    def result(self) -> Any:
        """See engine.recorder.Branch."""
        self._task.join()
        if self._error is not None:
            raise self._error
        return self._end
