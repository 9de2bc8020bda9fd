"""A story for the contract of recorders; a program too: URL RUN FOLDER [WHEN EFFECT], where it dies."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import NoneType

from orchestrator.engine.effects import Answer, CrewEnd, PhaseEnd, RunEnd, SaveEnd, StepEnd
from orchestrator.engine.recorder import Recorder
from orchestrator.words.errors import GpuplanError, StepFailed
from orchestrator.words.lifecycle import Outcome, StepState

RUN = "1102-rec"
DIED = 9
HOLD = "hold"  # while there is a file of this name, the effect "value" goes on


class Story:
    """Effects of every kind; each notes in `done.txt` that its body ran, and `seen.json` what came back."""

    def __init__(self, folder: Path, run: str = RUN) -> None:
        self._folder, self._run = folder, run
        self.seen: list[str] = []

    def _do(self, name: str) -> None:
        with (self._folder / "done.txt").open("a") as file:
            file.write(f"{name}\n")

    def run(self, recorder: Recorder) -> RunEnd:
        """Values, an error of ours, a bug, a child workflow."""

        def value() -> list[Answer]:
            self._do("value")
            while (self._folder / HOLD).exists():
                time.sleep(0.05)
            return [Answer("a", ok=True, detail="b")]

        def ours() -> None:
            self._do("ours")
            raise StepFailed("no", remedy="mend it")

        def bug() -> None:
            self._do("bug")
            raise ZeroDivisionError("oh")

        self.seen.append(repr(recorder.record("value", value, list[Answer])))
        for name, body in (("ours", ours), ("bug", bug)):
            try:
                recorder.record(name, body, NoneType)
            except GpuplanError as error:
                self.seen.append(f"{type(error).__name__}: {error.message.partition(' (')[0]}")
        self.seen.append(repr(recorder.branch("phase", "p", id=f"{self._run}/p").result()))
        recorder.record("last", lambda: self._do("last"), NoneType)
        (self._folder / "seen.json").write_text(json.dumps(self.seen))
        return RunEnd(Outcome.FAILED, ("something",))

    def crew(self, recorder: Recorder, phase: str, crew: str, attempt: int) -> CrewEnd:
        """One effect."""
        recorder.record("in-crew", lambda: self._do(f"in-crew {phase} {crew} {attempt}"), NoneType)
        return CrewEnd(crew)

    def save(self, recorder: Recorder, phase: str, step: str, attempt: int) -> SaveEnd:
        """One effect."""
        recorder.record("in-save", lambda: self._do(f"in-save {phase} {step} {attempt}"), NoneType)
        return SaveEnd(0)

    def phase(self, recorder: Recorder, name: str) -> PhaseEnd:
        """One effect and a step."""
        recorder.record("in-phase", lambda: self._do(f"in-phase {name}"), NoneType)
        end = recorder.branch("step", name, "s", "1", id=f"{self._run}/p/s/1").result()
        return PhaseEnd(Outcome.SUCCEEDED if end.state == StepState.DONE else Outcome.FAILED)

    def step(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """One effect."""
        return recorder.record("in-step", lambda: StepEnd(f"{phase}/{step}", StepState.DONE, str(attempt)), StepEnd)

    def stop_service(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """Nothing of it is asked."""
        raise AssertionError("nothing of it is asked here")


def main() -> None:
    """Run the story over DBOS, or go on with it."""
    from orchestrator.engine.durable import DurableRun

    url, run, folder, where = sys.argv[1], sys.argv[2], Path(sys.argv[3]), tuple(sys.argv[4:])

    def trigger(_workflow: str, effect: str, when: str) -> None:
        if (when, effect) == where:
            os._exit(DIED)

    story = Story(folder, run)
    durable = DurableRun(story, run, database_url=url, debug_log=folder / "debug.log", trigger=trigger)
    end = durable.start().result()
    durable.close()
    sys.stdout.write(repr(end))
