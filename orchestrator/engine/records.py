"""Done-records: beside the data on the volume, keyed by all that the result depends on; checked, not believed.

A step has one record, and none from the moment when it begins to run again: what it leaves then is not known.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import replace
from typing import Any

from orchestrator.engine.context import Context
from orchestrator.ledger import tables
from orchestrator.plan import StepRun
from orchestrator.transport.agent import Agent

FOLDER = ".gpuplan/done"


def created(agent: Agent, workspace: str, run: StepRun, *, sha256: bool = False) -> list[dict[str, Any]]:
    """The files that a step says it creates, as they are now: path below its cwd, bytes, and sha256 if asked."""
    if not run.step.creates:
        return []
    root = posixpath.normpath(posixpath.join(workspace, run.step.cwd))
    files: list[dict[str, Any]] = []
    for pattern in run.step.creates:
        up = pattern.startswith("../")  # `creates` may name a sibling of cwd; the agent looks below a root only
        base = posixpath.dirname(root) if up else root
        found = agent.files(base, [pattern[3:] if up else pattern], sha256=sha256)
        files += [{"path": ("../" if up else "") + f.path, "bytes": f.bytes} | _hash(f.sha256) for f in found]
    return sorted(files, key=lambda f: str(f["path"]))


def _hash(sha256: str | None) -> dict[str, str]:
    return {"sha256": sha256} if sha256 else {}


def read(context: Context, agent: Agent, workspace: str, run: StepRun) -> dict[str, Any] | None:
    """The volume's record of this very step, if every file that it names still has the size it had; else None."""
    text = agent.read(_path(run))
    if text is None:
        return None
    try:
        record: dict[str, Any] = json.loads(text)
        recorded = {str(f["path"]): int(f["bytes"]) for f in record["files"]}
        record["metrics"] = {str(name): float(value) for name, value in record.get("metrics", {}).items()}
        record["log"] = str(record.get("log", ""))
        same = record["key"] in context.accepted[run.id]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # a half-written or foreign file proves nothing: the step runs
    if not same:
        return None
    present = {f["path"]: f["bytes"] for f in created(agent, workspace, run)}
    return record if all(present.get(path) == size for path, size in recorded.items()) else None


def missing(agent: Agent, workspace: str, run: StepRun) -> list[str]:
    """Those patterns of `creates` that no file matches."""
    return [p for p in run.step.creates if not created(agent, workspace, _only(run, p))]


def _only(run: StepRun, pattern: str) -> StepRun:
    return replace(run, step=run.step.model_copy(update={"creates": (pattern,)}))


def write(
    context: Context, agent: Agent, workspace: str, run: StepRun, extra: dict[str, Any], volume: str
) -> list[dict[str, Any]]:
    """Record that the step is done, on the volume and in the ledger's copy; return the files it created."""
    files = created(agent, workspace, run)
    key = context.keys[run.id]
    record = {"step": run.id, "key": key, "run": context.run, "at": context.now(), "files": files} | extra
    agent.write(_path(run), json.dumps(record, indent=1))
    if volume:
        context.ledger.put(tables.records, volume=volume, step=run.id, key=key, at=context.now())
    return files


def forget(context: Context, agent: Agent, run: StepRun) -> None:
    """The step is about to run: nothing of what it made before counts any more."""
    agent.remove(_path(run))
    for key in context.accepted[run.id]:
        context.ledger.remove(tables.records, step=run.id, key=key)


def _path(run: StepRun) -> str:
    return f"{FOLDER}/{run.id.replace('/', '.')}.json"
