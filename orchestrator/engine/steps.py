"""One step of a phase as a durable workflow: wait for its needs, skip what is done, run, check, record."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import NoneType

from orchestrator.engine.board import Boards
from orchestrator.engine.context import Context
from orchestrator.engine.effects import Attempt, Go, StepEnd
from orchestrator.engine.machines import Machines
from orchestrator.engine.recorder import Recorder
from orchestrator.engine.services import ServiceWork
from orchestrator.engine.stalls import WITHOUT_XET
from orchestrator.engine.step_work import StepWork
from orchestrator.words.errors import GpuplanError, Interrupted, MachineLost, OverBudget, StepFailed
from orchestrator.words.lifecycle import StepState

OUT_OF_MEMORY = 75  # what a program ends with that sees for itself that its memory will not do
KILLED = 137
FREE_RESTARTS = 2  # of a job that ended by no doing of its own, beyond the step's `retries`


class Steps:
    """Runs the steps of this run's phases."""

    def __init__(self, context: Context, machines: Machines, boards: Boards) -> None:
        self._context, self._machines, self._boards = context, machines, boards

    def run(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """Bring one step to its end. Never raises."""
        work = self._work(phase, step, attempt)
        tries: list[Attempt] = []
        try:
            go = recorder.record("needs", work.await_needs, Go)
            if not go.go:
                return _end(recorder, work, go.state, go.why)
            if not isinstance(work, ServiceWork) and recorder.record("up-to-date", work.is_up_to_date, bool):
                return _end(recorder, work, StepState.UP_TO_DATE)
            go = recorder.record("machine", work.await_machine, Go)
            if not go.go:
                return _end(recorder, work, go.state, go.why)
            if isinstance(work, ServiceWork):
                recorder.record("start", work.serve, NoneType)
                return _end(recorder, work, StepState.READY)
            work.commit = recorder.record("room", partial(work.reaching, work.check_room), str)
            self._execute(recorder, work, tries)
            recorder.record("verify", partial(work.reaching, partial(work.verify, len(tries))), NoneType)
            return _end(recorder, work, StepState.DONE, "", tries)
        except MachineLost as error:
            return _end(recorder, work, StepState.LOST, error.message, tries)
        except (Interrupted, OverBudget) as error:
            end = _end(recorder, work, StepState.INTERRUPTED, error.message, tries)
            return replace(end, over_budget=isinstance(error, OverBudget))
        except GpuplanError as error:
            return _end(recorder, work, StepState.FAILED, str(error), tries)

    def stop_service(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """Stop a service once nothing that needs it is left; FAILED: it had ended by itself before, and not well."""
        work = self._service(phase, step, attempt)
        try:
            recorder.record("users", work.await_users, NoneType)
            return recorder.record("stop", work.stop, StepEnd)
        except GpuplanError as error:
            self._context.event(f"{step}: {error.message}")
            return StepEnd(step, work.row().state, error.message)

    def _execute(self, recorder: Recorder, work: StepWork, tries: list[Attempt]) -> None:
        """Run the command, again after a failure as often as `retries` says, in its on_oom form after an OOM.

        `tries` grows by each of them. StepFailed: the last did not succeed.
        """
        step, command = work.run.step, work.run.step.run
        restarts = failures = 0
        while True:
            number = len(tries) + 1
            more = WITHOUT_XET if any(one.stalled for one in tries) else {}
            end = recorder.record(f"run-{number}", partial(work.try_once, command, number, more), Attempt)
            tries.append(end)
            if end.succeeded:
                return
            if end.stalled and restarts < FREE_RESTARTS:
                restarts += 1
                how = f"{work.how(end)}: stopped, and without Xet ({restarts} of {FREE_RESTARTS} times for that)"
                recorder.record(f"retry-{number}", partial(work.reaching, partial(work.before_retry, how)), NoneType)
                continue
            if (end.stopped or end.lost) and not end.stalled and restarts < FREE_RESTARTS:
                restarts += 1
                how = "its supervisor was killed" if end.lost else "it was stopped, and not by this run"
                self._context.event(f"{work.run.id}: {how}: again ({restarts} of {FREE_RESTARTS} times for that)")
                continue
            if _out_of_memory(end) and step.on_oom and command != step.on_oom:
                command = step.on_oom
                self._context.event(f"{work.run.id}: out of memory: again as {command}")
                continue
            if failures >= step.retries:
                raise StepFailed(work.why(end))
            failures += 1
            again = partial(work.before_retry, work.how(end))
            recorder.record(f"retry-{number}", partial(work.reaching, again), NoneType)

    def _work(self, phase: str, step: str, attempt: int) -> StepWork:
        if next(one for one in self._context.phase(phase).steps if one.id == step).step.ready:
            return self._service(phase, step, attempt)
        return StepWork(self._context, self._machines, self._boards.of(phase, attempt), phase, step, attempt)

    def _service(self, phase: str, step: str, attempt: int) -> ServiceWork:
        return ServiceWork(self._context, self._machines, self._boards.of(phase, attempt), phase, step, attempt)


def _end(
    recorder: Recorder, work: StepWork, state: StepState, detail: str = "", tries: list[Attempt] | None = None
) -> StepEnd:
    return recorder.record("end", lambda: work.end(state, detail, tries or []), StepEnd)


def _out_of_memory(end: Attempt) -> bool:
    return not (end.stopped or end.timed_out) and (end.oom or end.exit in (KILLED, OUT_OF_MEMORY))
