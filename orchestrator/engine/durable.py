"""`Recorder` over DBOS; the one file that knows DBOS.

A recorded effect runs once; after `kill -9` it is replayed from its record, and the one that was under way runs again.
No BaseException crosses a workflow (a KeyboardInterrupt in one could never be resumed): our errors are recorded as
plain values and raised again on the workflow's side, anything else becomes an internal error with its traceback in the
run's debug.log. On disk there is plain JSON only, read back by the kind of each effect.
"""

from __future__ import annotations

import json
import secrets
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSConfiguredInstance, SetWorkflowID
from dbos import Serializer as DBOSSerializer

from orchestrator.engine.effects import CrewEnd, PhaseEnd, RunEnd, SaveEnd, StepEnd
from orchestrator.engine.recorder import Branch, Story
from orchestrator.engine.recording import decode, encode, plain, read
from orchestrator.engine.version import APPLICATION_VERSION
from orchestrator.words import errors
from orchestrator.words.secret import hide

Json = Any  # what json.dumps takes: results are plain values, without secrets
Trigger = Callable[[str, str, Literal["before", "after"]], None]
ENDS: dict[str, object] = {
    "phase": PhaseEnd,
    "crew": CrewEnd,
    "save": SaveEnd,
    "step": StepEnd,
    "stop_service": StepEnd,
}
LISTEN_S = 0.25  # between two looks for messages, of which there are none: the engine's end waits for the last one
SCHEDULE_S = 60.0  # between two looks for schedules: there are none
TABLE = "workflow_status"  # DBOS's own
TAKE_OVER = (
    "UPDATE {table} SET executor_id = :executor, application_version = :version "
    "WHERE status IN ('PENDING', 'ENQUEUED') "
    "AND (workflow_uuid = :run OR substr(workflow_uuid, 1, length(:below)) = :below)"
)
POLL_S = 0.2  # between two looks at a workflow's end


class _PlainJson(DBOSSerializer):
    def name(self) -> str:
        return "gpuplan_json"

    def serialize(self, data: Any) -> str:
        if isinstance(data, BaseException):
            return json.dumps({"__error__": hide(f"{type(data).__name__}: {data}")})
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        data = json.loads(serialized_data)
        if isinstance(data, dict) and "__error__" in data:
            return errors.GpuplanError(data["__error__"])
        if isinstance(data, dict) and data.keys() == {"args", "kwargs"}:
            data["args"] = tuple(data["args"])  # a workflow's arguments: DBOS joins them to a tuple when it recovers
        return data


@DBOS.dbos_class()
class _Workflows(DBOSConfiguredInstance):
    """Workflow functions for DBOS; what they do is in the story."""

    def __init__(self, story: Story, debug_log: Path, trigger: Trigger) -> None:
        super().__init__(config_name="run")
        self.serve(story, debug_log, trigger)

    def serve(self, story: Story, debug_log: Path, trigger: Trigger) -> None:
        """From now on they do what this story says: DBOS takes one instance of a name in the life of a process."""
        self._story, self._debug_log, self._trigger = story, debug_log, trigger

    @DBOS.workflow()
    def run(self) -> Json:
        return plain(RunEnd, self._story.run(self))

    @DBOS.workflow()
    def phase(self, name: str) -> Json:
        return plain(PhaseEnd, self._story.phase(self, name))

    @DBOS.workflow()
    def crew(self, phase: str, crew: str, attempt: str) -> Json:
        return plain(CrewEnd, self._story.crew(self, phase, crew, int(attempt)))

    @DBOS.workflow()
    def save(self, phase: str, step: str, attempt: str) -> Json:
        return plain(SaveEnd, self._story.save(self, phase, step, int(attempt)))

    @DBOS.workflow()
    def step(self, phase: str, step: str, attempt: str) -> Json:
        return plain(StepEnd, self._story.step(self, phase, step, int(attempt)))

    @DBOS.workflow()
    def stop_service(self, phase: str, step: str, attempt: str) -> Json:
        return plain(StepEnd, self._story.stop_service(self, phase, step, int(attempt)))

    def record(self, name: str, body: Callable[[], Any], kind: object) -> Any:
        """See engine.recorder.Recorder."""
        workflow = DBOS.workflow_id or ""

        def recorded() -> Json:
            try:
                return encode(name, body, kind, self._broken)
            finally:
                self._trigger(workflow, name, "before")

        result = DBOS.run_step({"name": name}, recorded)
        self._trigger(workflow, name, "after")
        return decode(result, kind)

    def _broken(self, name: str, error: Exception) -> tuple[str, str]:
        with self._debug_log.open("a") as log:
            log.write(hide(f"in {name}:\n{traceback.format_exc()}\n"))
        return hide(
            f"internal error in {name}: {type(error).__name__}: {error}"
        ), f"the traceback is in {self._debug_log}"

    def branch(self, kind: str, *arguments: str, id: str) -> Branch[Any]:  # noqa: A002
        """See engine.recorder.Recorder."""
        workflows: dict[str, Callable[..., Json]] = {
            "phase": self.phase,
            "crew": self.crew,
            "save": self.save,
            "step": self.step,
            "stop_service": self.stop_service,
        }
        with SetWorkflowID(id):
            return _Handle(DBOS.start_workflow(workflows[kind], *arguments), ENDS[kind])


_made: list[_Workflows] = []  # the one of this process, which may drive several runs after each other


def _workflows(story: Story, debug_log: Path, trigger: Trigger) -> _Workflows:
    if _made:
        _made[0].serve(story, debug_log, trigger)
    else:
        _made.append(_Workflows(story, debug_log, trigger))
    return _made[0]


class _Handle:
    def __init__(self, handle: Any, kind: object) -> None:
        self._handle, self._kind = handle, kind

    def result(self) -> Any:
        return read(self._kind, self._handle.get_result(polling_interval_sec=POLL_S))


class DurableRun:
    """One run in this process. The caller holds the run's lock: a second process would run its step twice.

    Each run is a version of its own to DBOS: what it takes up again lies for a moment in a queue, from which any other
    process of the same version would play it as well, in the story of the run that it drives itself.
    """

    def __init__(
        self, story: Story, run: str, *, database_url: str, debug_log: Path, trigger: Trigger = lambda *_: None
    ) -> None:
        """`trigger(workflow id, effect, moment)` is called in every effect: for those who want to break it there.

        "before": its body has run, and its record is not written; "after": the record is written, or was replayed.
        """
        self._run, self._url = run, database_url
        self._version, self._executor = f"{APPLICATION_VERSION} {run}", f"run-{run}-{secrets.token_hex(4)}"
        config: DBOSConfig = {
            "name": "gpuplan",
            "system_database_url": database_url,
            "executor_id": self._executor,
            "application_version": self._version,
            "serializer": _PlainJson(),
            "console_log_level": "CRITICAL",
            "max_executor_threads": 128,
            "notification_listener_polling_interval_sec": LISTEN_S,
            "scheduler_polling_interval_sec": SCHEDULE_S,
        }
        DBOS(config=config)
        self._workflows = _workflows(story, debug_log, trigger)

    def start(self) -> Branch[RunEnd]:
        """Take up what is pending of this run, or begin it; return the handle of the whole run."""
        self._take_over()
        DBOS.launch()
        with SetWorkflowID(self._run):
            return _Handle(DBOS.start_workflow(self._workflows.run), RunEnd)

    def _take_over(self) -> None:
        """What a dead process left pending is this one's: DBOS takes up what it finds under its own name."""
        engine = sa.create_engine(self._url)
        schema = None if engine.dialect.name == "sqlite" else "dbos"
        values = {"run": self._run, "below": f"{self._run}/", "version": self._version, "executor": self._executor}
        try:
            if sa.inspect(engine).has_table(TABLE, schema):  # else no run has ever come as far
                with engine.begin() as connection:
                    table = f"{schema}.{TABLE}" if schema else TABLE
                    connection.execute(sa.text(TAKE_OVER.format(table=table)), values)
        finally:
            engine.dispose()

    def close(self) -> None:
        """Stop the engine's threads; what is under way stays pending in the database."""
        DBOS.destroy(workflow_completion_timeout_sec=0)


@contextmanager
def _client(database_url: str) -> Iterator[DBOSClient]:
    client = DBOSClient(system_database_url=database_url, serializer=_PlainJson())
    try:
        yield client
    except sa.exc.DBAPIError:
        pass  # no run has ever come as far as the engine's tables: nothing is pending, and nothing has ended
    finally:
        client.destroy()


def has_ended(run: str, *, database_url: str) -> bool:
    """Whether the run's story came to its end already: to go on with it would only replay what was recorded."""
    with _client(database_url) as client:
        return any(w.status in ("SUCCESS", "ERROR") for w in client.list_workflows(workflow_ids=[run]))
    return False


def give_up(run: str, *, database_url: str) -> None:
    """Cancel a run's pending workflows, so that nothing takes them up again (`gpuplan down`)."""
    with _client(database_url) as client:
        for workflow in client.list_workflows(workflow_id_prefix=run, status=["PENDING", "ENQUEUED"]):
            if workflow.workflow_id == run or workflow.workflow_id.startswith(f"{run}/"):
                client.cancel_workflow(workflow.workflow_id)
