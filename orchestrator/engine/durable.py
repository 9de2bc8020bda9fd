"""Durable execution: the one file that knows DBOS.

A recorded effect runs once; after `kill -9` it is replayed from its record, and the one that was under way runs again.
No BaseException crosses a workflow (a KeyboardInterrupt in one could never be resumed): our errors are recorded as
plain values and raised again on the workflow's side, anything else becomes an internal error with its traceback in the
run's debug.log.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy.exc
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSConfiguredInstance, SetWorkflowID
from dbos import Serializer as DBOSSerializer
from pydantic import TypeAdapter

from orchestrator.engine.effects import StepEnd
from orchestrator.engine.recorder import Branch, Recorder
from orchestrator.engine.version import APPLICATION_VERSION
from orchestrator.words import errors

T = TypeVar("T")
_ANY, _STEP_END = TypeAdapter[Any](Any), TypeAdapter(StepEnd)
Json = Any  # what json.dumps takes: results are plain values, without secrets


class Story(Protocol):
    """The workflows themselves, free of any engine."""

    def run(self, recorder: Recorder) -> Json:
        """The whole run."""
        ...

    def phase(self, recorder: Recorder, name: str) -> Json:
        """One phase of it."""
        ...

    def step(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """One step of a phase."""
        ...

    def stop_service(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """The end of a service."""
        ...


class _PlainJson(DBOSSerializer):
    def name(self) -> str:
        return "gpuplan_json"

    def serialize(self, data: Any) -> str:
        if isinstance(data, BaseException):
            return json.dumps({"__error__": f"{type(data).__name__}: {data}"})
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        data = json.loads(serialized_data)
        if isinstance(data, dict) and "__error__" in data:
            return errors.GpuplanError(data["__error__"])
        if isinstance(data, dict) and data.keys() == {"args", "kwargs"}:
            data["args"] = tuple(data["args"])  # a workflow's arguments: DBOS joins them to a tuple when it recovers
        return data


def _kind(error: errors.GpuplanError) -> str:
    """The name of the error's nearest class in orchestrator.words.errors: an adapter may have finer ones."""
    return str(next(c.__name__ for c in type(error).__mro__ if c is getattr(errors, c.__name__, None)))


@DBOS.dbos_class()
class _Workflows(DBOSConfiguredInstance):
    """Workflow functions for DBOS; what they do is in the story."""

    def __init__(self, story: Story, debug_log: Path) -> None:
        super().__init__(config_name="run")
        self._story = story
        self._debug_log = debug_log
        self._kinds: dict[str, Callable[..., Json]] = {
            "phase": self.phase,
            "step": self.step,
            "stop_service": self.stop_service,
        }

    @DBOS.workflow()
    def run(self) -> Json:
        return self._story.run(self)

    @DBOS.workflow()
    def phase(self, name: str) -> Json:
        return self._story.phase(self, name)

    @DBOS.workflow()
    def step(self, phase: str, step: str, attempt: str) -> Json:
        return _STEP_END.dump_python(self._story.step(self, phase, step, int(attempt)), mode="json")

    @DBOS.workflow()
    def stop_service(self, phase: str, step: str, attempt: str) -> Json:
        return _STEP_END.dump_python(self._story.stop_service(self, phase, step, int(attempt)), mode="json")

    def record(self, name: str, body: Callable[[], T], kind: Any = Any) -> T:
        plain = TypeAdapter(kind)

        def recorded() -> Json:
            try:
                return {"value": plain.dump_python(body(), mode="json")}
            except errors.GpuplanError as error:
                return {"error": _kind(error), "message": error.message, "remedy": error.remedy}
            except Exception as error:  # noqa: BLE001  a bug must not keep the teardown from running
                with self._debug_log.open("a") as log:
                    log.write(f"in {name}:\n{traceback.format_exc()}\n")
                message = f"internal error in {name}: {type(error).__name__}: {error}"
                return {"error": "GpuplanError", "message": message, "remedy": f"the traceback is in {self._debug_log}"}

        result = DBOS.run_step({"name": name}, recorded)
        if "error" in result:
            error: type[errors.GpuplanError] = getattr(errors, result["error"])
            raise error(result["message"], remedy=result["remedy"])
        value: T = plain.validate_python(result["value"])
        return value

    def branch(self, kind: str, *arguments: str, id: str) -> Branch:  # noqa: A002
        with SetWorkflowID(id):
            result = Any if kind == "phase" else StepEnd
            return _Handle(DBOS.start_workflow(self._kinds[kind], *arguments), TypeAdapter(result))


class _Handle:
    def __init__(self, handle: Any, kind: Any = _ANY) -> None:
        self._handle, self._kind = handle, kind

    def result(self) -> Json:
        return self._kind.validate_python(self._handle.get_result(polling_interval_sec=0.2))


class DurableRun:
    """One run in this process. The caller holds the run's lock file: a second process would run its step twice."""

    def __init__(self, story: Story, run: str, *, database_url: str, debug_log: Path) -> None:
        self._run = run
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        config: DBOSConfig = {
            "name": "gpuplan",
            "system_database_url": database_url,
            "executor_id": f"run-{run}",
            "application_version": APPLICATION_VERSION,
            "serializer": _PlainJson(),
            "console_log_level": "CRITICAL",
            "max_executor_threads": 128,
            "notification_listener_polling_interval_sec": 1.0,
        }
        DBOS(config=config)
        self._workflows = _Workflows(story, debug_log)

    def start(self) -> Branch:
        """Take up what is pending of this run, or begin it; return the handle of the whole run."""
        DBOS.launch()
        with SetWorkflowID(self._run):
            return _Handle(DBOS.start_workflow(self._workflows.run))

    def close(self) -> None:
        """Stop the engine's threads; what is under way stays pending in the database."""
        DBOS.destroy(workflow_completion_timeout_sec=0)


def give_up(run: str, *, database_url: str) -> None:
    """Cancel a run's pending workflows, so that nothing takes them up again (`gpuplan down`)."""
    client = DBOSClient(system_database_url=database_url, serializer=_PlainJson())
    try:
        pending = client.list_workflows(workflow_id_prefix=run, status=["PENDING", "ENQUEUED"])
        for workflow in pending:
            if workflow.workflow_id == run or workflow.workflow_id.startswith(f"{run}/"):
                client.cancel_workflow(workflow.workflow_id)
    except sqlalchemy.exc.DBAPIError:
        pass  # no run has ever come as far as the engine's tables: nothing is pending
    finally:
        client.destroy()
