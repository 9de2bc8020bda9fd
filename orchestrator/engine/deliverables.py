"""The deliverables of a phase: each a question to the machine, the stores or the files that were pulled home."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from orchestrator.engine import hub_check
from orchestrator.engine.context import Context
from orchestrator.engine.effects import Answer, ManifestFile
from orchestrator.engine.step_log import StepLog
from orchestrator.ledger.rows import DeliverableRow, StepRow
from orchestrator.plan.globs import matches
from orchestrator.plan.resolve import StepRun, all_steps
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import GpuplanError, Interrupted, OverBudget, StepFailed
from orchestrator.words.model import Deliverable, Phase

VERIFIED = "VERIFIED"


class Deliverables:
    """Judges the deliverables of one phase on its root machine."""

    def __init__(self, context: Context, phase: Phase, agent: Agent, workspace: str) -> None:
        self.context, self.phase, self.agent, self.workspace = context, phase, agent, workspace
        self.files: Sequence[ManifestFile] = ()
        self.home = Path()

    def judge(self, files: Sequence[ManifestFile], home: Path) -> list[Answer]:
        """Answer every question. `files`: the manifest of what was uploaded and pulled to `home`."""
        self.files, self.home = files, home
        answers = [self._answer(wanted) for wanted in self.phase.deliverables]
        for position, answer in enumerate(answers):
            self.context.ledger.deliverables.put(
                DeliverableRow(
                    run=self.context.run, phase=self.phase.name, name=answer.name, position=position, ok=answer.ok,
                    detail=answer.detail,
                )
            )  # fmt: skip
        return answers

    def _answer(self, wanted: Deliverable) -> Answer:
        try:
            return Answer(wanted.name, ok=True, detail=KINDS[kind_of(wanted)](self, wanted))
        except (Interrupted, OverBudget):
            raise
        except GpuplanError as error:
            return Answer(wanted.name, ok=False, detail=error.message)

    def step_row(self, step: str) -> StepRow:
        """The row of a step of this phase, named with or without a phase. StepFailed: it did not run in this one."""
        name = step if "/" in step else f"{self.phase.name}/{step}"
        found = self.context.ledger.steps.maybe(run=self.context.run, phase=self.phase.name, id=name)
        if found is None:
            raise StepFailed(f"{name} did not run in this phase")
        return found

    def logs(self, step: str) -> list[StepLog]:
        """The step's logs, one for each of its nodes; what its failed attempts said proves nothing."""
        nodes = [StepLog(self.context, self.phase.name, step, node) for node in range(self.phase.machine.nodes)]
        return [log for log in nodes if log.path.exists()]

    def artifacts(self, pattern: str) -> list[ManifestFile]:
        """The artifacts that match. StepFailed: none does."""
        wanted = [f for f in self.files if matches(f.name, pattern)]
        if not wanted:
            raise StepFailed(f"no artifact matches {pattern}")
        return wanted


# One function a kind of question: what holds, in words; StepFailed: what does not.


def _machine(judge: Deliverables, _wanted: Deliverable) -> str:
    return f"agent answers in {judge.workspace}"


def _file(judge: Deliverables, wanted: Deliverable) -> str:
    pattern, least = wanted.file or "", wanted.min_bytes or 0
    found = judge.agent.files(judge.workspace, [pattern], sha256=False)
    if not found:
        raise StepFailed(f"no file matches {pattern}")
    if small := next((f for f in found if f.bytes < least), None):
        raise StepFailed(f"{small.path} has {small.bytes:,} bytes, at least {least:,} are wanted")
    return ", ".join(f"{f.path} ({f.bytes:,} bytes)" for f in found[:3])


def _same(judge: Deliverables, wanted: Deliverable) -> str:
    paths = wanted.same
    found = {f.path: str(f.sha256) for f in judge.agent.files(judge.workspace, list(paths), sha256=True)}
    if absent := next((path for path in paths if path not in found), ""):
        raise StepFailed(f"{absent} is not there")
    if len(set(found.values())) > 1:
        raise StepFailed("their sha256 differ: " + ", ".join(f"{path} {sha[:12]}" for path, sha in found.items()))
    return f"sha256 {found[paths[0]][:12]}… for all {len(paths)}"


def _checkpoint(judge: Deliverables, wanted: Deliverable) -> str:
    folder = wanted.checkpoint or ""
    return hub_check.checkpoint(judge.context, judge.agent, judge.workspace, folder, _filler(judge, folder))


def _filler(judge: Deliverables, folder: str) -> StepRun | None:
    steps = all_steps(judge.context.spec.plan).values()
    return next((s for s in steps if s.step.hub and s.step.hub.dir.strip("/") == folder.strip("/")), None)


def _metric(judge: Deliverables, wanted: Deliverable) -> str:
    row = judge.step_row(wanted.step or "")
    metric = judge.context.ledger.metrics.maybe(run=judge.context.run, step=row.id, name=wanted.metric or "")
    if metric is None:
        raise StepFailed(f"{row.id} measured no {wanted.metric}")
    value = Decimal(str(metric.value))
    said = f"{wanted.metric} = {value:.4g} on {metric.measured_on}"
    if wanted.min is not None and value < wanted.min:
        raise StepFailed(f"{said}: at least {wanted.min} is wanted")
    if wanted.max is not None and value > wanted.max:
        raise StepFailed(f"{said}: at most {wanted.max} is wanted")
    return said


def _step(judge: Deliverables, wanted: Deliverable) -> str:
    row = judge.step_row(wanted.step or "")
    if not row.state.serves:
        raise StepFailed(f"{row.id} is {row.state.lower()}")
    if wanted.stdout is None:
        return f"{row.id} {row.state.lower().replace('_', ' ')}"
    logs = judge.logs(row.id)
    line = next((line for line in _lines(logs) if wanted.stdout in line), None)
    if line is None:
        last = logs[-1].last_lines(1).strip()[-120:] if logs else ""
        raise StepFailed(f"the output of {row.id} does not hold {wanted.stdout!r}; its last line: {last!r}")
    return line.strip()[:160]


def _lines(logs: Sequence[StepLog]) -> Iterator[str]:
    for log in logs:
        yield from log.lines()


def _uploaded(judge: Deliverables, wanted: Deliverable) -> str:
    files, stores = judge.artifacts(wanted.uploaded or ""), judge.context.stores
    if not stores:
        raise StepFailed("no store is configured (stores: in the configuration, or --store)")
    for store in stores:
        rows = judge.context.ledger.artifacts.all(run=judge.context.run, store=store.url, state=VERIFIED)
        verified = {row.name for row in rows}
        if bad := next((f for f in files if f.name not in verified), None):
            raise StepFailed(f"{bad.name} is not verified in {store.url}")
    total = sum(f.bytes for f in files)
    return f"{_count(files)}, {total:,} bytes verified in {', '.join(s.url for s in stores)}"


def _pulled(judge: Deliverables, wanted: Deliverable) -> str:
    files = judge.artifacts(wanted.pulled or "")
    for file in files:
        path = judge.home / file.name
        if not path.exists() or path.stat().st_size != file.bytes:
            raise StepFailed(f"{file.name} is not whole in {judge.home}")
    return f"{_count(files)} in {judge.home}"


def _count(found: Sequence[ManifestFile]) -> str:
    return "1 file" if len(found) == 1 else f"{len(found)} files"


# By the key of the question; `metric` comes before `step`, which it names too.
KINDS: Mapping[str, Callable[[Deliverables, Deliverable], str]] = {
    "machine": _machine,
    "file": _file,
    "same": _same,
    "checkpoint": _checkpoint,
    "metric": _metric,
    "step": _step,
    "uploaded": _uploaded,
    "pulled": _pulled,
}


def kind_of(wanted: Deliverable) -> str:
    """Which kind of question it is: the model lets exactly one be set."""
    return next(kind for kind in KINDS if getattr(wanted, kind) not in (None, ()))
