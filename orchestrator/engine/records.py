"""Done-records: beside the data on the volume, keyed by all that the result depends on; checked, not believed.

A step has one record, and none from the moment when it begins to run again: what it leaves then is not known.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from orchestrator.engine.context import Context
from orchestrator.ledger.rows import RecordRow
from orchestrator.plan import StepRun
from orchestrator.plan.globs import matches
from orchestrator.transport.agent import Agent
from orchestrator.transport.replies import Figure

FOLDER = ".gpuplan/done"


@dataclass(frozen=True, slots=True)
class CreatedFile:
    """A file that a step made: its path below the step's cwd."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class StepFigure:
    """A figure of one node of a step."""

    node: int
    name: str
    value: float
    measured_on: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneRecord:
    """What lies on the volume, as JSON of these very names. Versions to come read it: fields are added, never changed.

    `at` is in Unix seconds; `log` and `stdout` are the ends of what the step printed, both outputs and the first alone.
    Version 0.1.0 wrote `metrics`, without anybody's word on where they were measured, and no `stdout`.
    """

    step: str
    key: str
    run: str
    at: float
    files: tuple[CreatedFile, ...]
    log: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    stdout: str = ""
    figures: tuple[StepFigure, ...] = ()


def created(agent: Agent, workspace: str, run: StepRun) -> list[CreatedFile]:
    """The files that a step says it creates, as they are now."""
    root = posixpath.normpath(posixpath.join(workspace, run.step.cwd))
    beside = [p for p in run.step.creates if p.startswith("../")]  # `creates` may name a sibling of cwd
    below = [p for p in run.step.creates if p not in beside]
    files = agent.files(root, below) if below else []
    siblings = agent.files(posixpath.dirname(root), [p[3:] for p in beside]) if beside else []
    found = [CreatedFile(f.path, f.bytes) for f in files] + [CreatedFile(f"../{f.path}", f.bytes) for f in siblings]
    return sorted(found, key=lambda f: f.path)


def read(context: Context, agent: Agent, workspace: str, run: StepRun) -> DoneRecord | None:
    """The volume's record of this very step, if every file that it names still has the size it had; else None."""
    text = agent.read(path(run))
    record = None if text is None else parse(text)
    if record is None or record.key not in context.accepted[run.id]:
        return None
    present = {f.path: f.bytes for f in created(agent, workspace, run)}
    return record if all(present.get(f.path) == f.bytes for f in record.files) else None


def parse(text: str) -> DoneRecord | None:
    """A record from its JSON. None: a half-written or foreign file, which proves nothing: the step runs."""
    try:
        found = json.loads(text)
        return DoneRecord(
            step=str(found.get("step", "")),
            key=str(found["key"]),
            run=str(found.get("run", "")),
            at=float(found.get("at", 0)),
            files=tuple(CreatedFile(str(f["path"]), int(f["bytes"])) for f in found["files"]),
            log=str(found.get("log", "")),
            metrics={str(name): float(value) for name, value in found.get("metrics", {}).items()},
            stdout=str(found.get("stdout", found.get("log", ""))),
            figures=tuple(_figure(said) for said in found.get("figures", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _figure(said: Mapping[str, object]) -> StepFigure:
    figure = Figure.read(said)
    if figure is None:
        raise ValueError("no figure")
    return StepFigure(int(str(said["node"])), str(said["name"]), figure.value, figure.measured_on, figure.device)


def missing(agent: Agent, workspace: str, run: StepRun, files: Sequence[CreatedFile]) -> list[str]:
    """Those patterns of `creates` that none of the files that were `created` matches."""
    unmatched = [p for p in run.step.creates if not any(matches(f.path, p) for f in files)]
    return [p for p in unmatched if not created(agent, workspace, _only(run, p))]  # it is the machine that decides


def _only(run: StepRun, pattern: str) -> StepRun:
    return replace(run, step=run.step.model_copy(update={"creates": (pattern,)}))


def write(context: Context, agent: Agent, record: DoneRecord, run: StepRun, volume: str) -> None:
    """Record that the step is done, on the volume (`volume` "": the machine's own disk) and in the ledger's copy."""
    agent.write(path(run), json.dumps(asdict(record), indent=1))
    if volume:
        context.ledger.records.put(RecordRow(volume=volume, step=run.id, key=record.key, at=record.at))


def forget(context: Context, run: StepRun) -> None:
    """The step is about to run: the ledger's copy no longer counts. The record itself goes when its job begins."""
    for key in context.accepted[run.id]:
        context.ledger.records.remove(step=run.id, key=key)


def path(run: StepRun) -> str:
    """Where a step's record is, below the workspace."""
    return f"{FOLDER}/{run.id.replace('/', '.')}.json"
