"""The deliverables of a phase: each a question to the machine, the stores or the files that were pulled home.

An answer is yes, no, or that it cannot be shown here. Every question asks first whether the steps that it is about have
succeeded, in this state of the volume.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

from orchestrator.engine import hub_check, provenance
from orchestrator.engine.context import Context
from orchestrator.engine.effects import Answer, ManifestFile
from orchestrator.engine.evidence import STANDS_IN, Evidence, NotShown
from orchestrator.engine.packs import Pack, like
from orchestrator.engine.reach import patiently
from orchestrator.engine.step_log import StepLog
from orchestrator.ledger.rows import DeliverableRow, MachineRow, StepRow
from orchestrator.plan.globs import matches
from orchestrator.plan.resolve import StepRun, all_steps
from orchestrator.transport.agent import Agent
from orchestrator.transport.refusals import DeadmanExpired
from orchestrator.words.errors import ConnectionLost, GpuplanError, Interrupted, MachineLost, OverBudget, StepFailed
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Deliverable, Phase

VERIFIED = "VERIFIED"


class _LaterError(Exception):
    """The question is asked again when the machines are gone."""


class Deliverables:
    """Judges the deliverables of one phase on its root machine."""

    def __init__(self, context: Context, phase: Phase, agent: Agent, workspace: str) -> None:
        self.context, self.phase, self.agent, self.workspace = context, phase, agent, workspace
        self.files: Sequence[ManifestFile] = ()
        self.packs: Mapping[str, Pack] = {}
        self.home: Path | None = None

    def judge(self, files: Sequence[ManifestFile], home: Path | None, packs: Mapping[str, Pack] = {}) -> list[Answer]:
        """Answer every question. `files`: the manifest of what was uploaded and pulled to `home`.

        home None: what was uploaded comes home later; whether it has is left open (see `at_home`). `packs`: what the
        tars among the files hold.
        """
        self.files, self.home, self.packs = files, home, packs
        answers = []
        for position, wanted in enumerate(self.phase.deliverables):
            with suppress(_LaterError):
                answers.append(self._answer(wanted))
                note(self.context, self.phase.name, position, answers[-1])
        return answers

    def _answer(self, wanted: Deliverable) -> Answer:
        """The answer to one question. Whatever says that the root machine is not there is raised: it is asked again."""
        clock, check = self.context.clock, self.context.control.check
        try:
            said = patiently(clock, lambda: KINDS[kind_of(wanted)](self, wanted), check=check)
            return Answer(wanted.name, ok=True, detail=said)
        except (Interrupted, OverBudget, ConnectionLost, MachineLost, DeadmanExpired):
            raise
        except NotShown as error:
            return Answer(wanted.name, ok=None, detail=str(error))
        except GpuplanError as error:
            return Answer(wanted.name, ok=False, detail=error.message)

    def done(self, step: str) -> StepRow:
        """The row of a step of this phase, named with or without a phase. StepFailed: it has not succeeded in it."""
        name = step if "/" in step else f"{self.phase.name}/{step}"
        found = self.context.ledger.steps.maybe(run=self.context.run, phase=self.phase.name, id=name)
        if found is None:
            raise StepFailed(f"{name} did not run in this phase")
        if not found.state.is_done:
            raise StepFailed(f"{name} is {found.state.lower()}")
        return found

    def made(self, *patterns: str) -> None:
        """StepFailed: a step that says that it creates what these globs mean, in a tar too, has not succeeded."""
        tars = {f"{folder}.tar": f"{folder}/**" for folder in self.phase.pack}
        inner = (tars[tar] for tar in tars for pattern in patterns if matches(tar, pattern))
        provenance.require(self.context, self.agent, self.workspace, (*patterns, *inner))

    def logs(self, step: str) -> list[StepLog]:
        """The step's logs, one for each of its nodes; what its failed attempts said proves nothing."""
        nodes = [StepLog(self.context, self.phase.name, step, node) for node in range(self.phase.machine.nodes)]
        return [log for log in nodes if log.path.exists()]

    def artifacts(self, pattern: str) -> list[ManifestFile]:
        """The artifacts that match. StepFailed: none does."""
        wanted = like(self.files, self.packs, pattern)
        if not wanted:
            raise StepFailed(f"no artifact matches {pattern}")
        return wanted


# One function a kind of question: what holds, in words; StepFailed: what does not; NotShown: why nobody can say.


def _machine(judge: Deliverables, _wanted: Deliverable) -> str:
    context, name = judge.context, judge.phase.name
    root, living = context.root(name), context.machines(name)
    for row in living:
        _require_answer(judge, row, root=row == root)
    reached = _reached(judge)
    if len(reached) < (wanted := _wanted_nodes(judge)):
        raise StepFailed(f"{len(reached)} of {wanted} machines are there")
    gpus = sum(row.gpus for row in reached)
    stands_in = f" ({STANDS_IN})" if not context.provider.shows_gpu else ""
    ended = [row for row in reached if row not in living]
    answering = f"{_count(living, 'machine')} answering" + (
        f", {len(ended)} more did until its last step had ended" if ended else ""
    )
    return answering + (f", {_count(range(gpus), 'GPU')} listed{stands_in}" if gpus else "")


def _reached(judge: Deliverables) -> list[MachineRow]:
    """The machine of each node of the phase that was reached last, and did not go before it was let go."""
    context, name = judge.context, judge.phase.name
    held = {c.machine for c in context.ledger.charges.all(run=context.run, phase=name)}
    rows = [r for r in context.ledger.machines.all(run=context.run) if r.name in held and r.reachable_at]
    staged = name in context.spec.staged
    last = {row.node: row for row in rows if row.gpus or not staged}
    return [last[node] for node in sorted(last)]


def _wanted_nodes(judge: Deliverables) -> int:
    """How many machines must have been there: none of those that only steps which were done before need."""
    context, name = judge.context, judge.phase.name
    if name not in context.spec.staged:
        return judge.phase.machine.nodes
    ran = {r.id for r in context.ledger.steps.all(run=context.run, phase=name) if r.state != StepState.UP_TO_DATE}
    crews = [crew for crew in context.crews(name)[1:] if any(step.id in ran for step in crew.steps)]
    return sum(len(crew.nodes) for crew in crews)


def _require_answer(judge: Deliverables, row: MachineRow, *, root: bool) -> None:
    """StepFailed: the machine does not answer, or lists fewer GPUs than were rented with it."""
    try:
        listed = len(judge.context.agents(row.name).hello().gpus)
    except ConnectionLost as error:
        if root:
            raise
        raise StepFailed(f"{row.name} does not answer: {error.message}") from error
    if judge.context.provider.rented and listed < row.gpus:
        raise StepFailed(f"{row.name} lists {listed} of its {row.gpus} GPUs")


def _file(judge: Deliverables, wanted: Deliverable) -> str:
    pattern, least = wanted.file or "", wanted.min_bytes or 0
    judge.made(pattern)
    found = judge.agent.files(judge.workspace, [pattern], sha256=False)
    if not found:
        raise StepFailed(f"no file matches {pattern}")
    if small := next((f for f in found if f.bytes < least), None):
        raise StepFailed(f"{small.path} has {small.bytes:,} bytes, at least {least:,} are wanted")
    return ", ".join(f"{f.path} ({f.bytes:,} bytes)" for f in found[:3])


def _same(judge: Deliverables, wanted: Deliverable) -> str:
    paths = wanted.same
    judge.made(*paths)
    found = {f.path: str(f.sha256) for f in judge.agent.files(judge.workspace, list(paths), sha256=True)}
    if absent := next((path for path in paths if path not in found), ""):
        raise StepFailed(f"{absent} is not there")
    if len(set(found.values())) > 1:
        raise StepFailed("their sha256 differ: " + ", ".join(f"{path} {sha[:12]}" for path, sha in found.items()))
    return f"sha256 {found[paths[0]][:12]}… for all {len(paths)}"


def _checkpoint(judge: Deliverables, wanted: Deliverable) -> str:
    folder = wanted.checkpoint or ""
    judge.made(f"{folder}/model.safetensors.index.json")
    return hub_check.checkpoint(judge.context, judge.agent, judge.workspace, folder, _filler(judge, folder))


def _filler(judge: Deliverables, folder: str) -> StepRun | None:
    steps = all_steps(judge.context.spec.plan).values()
    return next((s for s in steps if s.step.hub and s.step.hub.dir.strip("/") == folder.strip("/")), None)


def _metric(judge: Deliverables, wanted: Deliverable) -> str:
    row = judge.done(wanted.step or "")
    context = judge.context
    evidence = Evidence(context.ledger, context.phase(judge.phase.name), row, shows_gpu=context.provider.shows_gpu)
    found = evidence.shown(wanted.metric or "", wanted.device)
    for shown in found:
        value = Decimal(str(shown.value))
        if wanted.min is not None and value < wanted.min:
            raise StepFailed(f"{shown}: at least {wanted.min} is wanted")
        if wanted.max is not None and value > wanted.max:
            raise StepFailed(f"{shown}: at most {wanted.max} is wanted")
    return "; ".join(map(str, found))


def _step(judge: Deliverables, wanted: Deliverable) -> str:
    row = judge.done(wanted.step or "")
    if wanted.stdout is None and wanted.matches is None:
        return f"{row.id} {row.state.lower().replace('_', ' ')}"
    pattern = re.compile(re.escape(wanted.stdout) if wanted.stdout is not None else wanted.matches or "")
    found: str | None = None
    last = ""
    for line in _lines(judge.logs(row.id)):
        last = line if line.strip() else last
        found = line if pattern.search(line) else found
    if found is None:
        asked = f"holds {wanted.stdout!r}" if wanted.stdout is not None else f"matches {wanted.matches!r}"
        raise StepFailed(f"no line of {row.id}'s standard output {asked}; its last: {last.strip()[-120:]!r}")
    return found.strip()[:160]


def _lines(logs: Sequence[StepLog]) -> Iterator[str]:
    for log in logs:
        yield from log.lines()


def _uploaded(judge: Deliverables, wanted: Deliverable) -> str:
    judge.made(wanted.uploaded or "")
    files, stores = judge.artifacts(wanted.uploaded or ""), judge.context.stores
    if not stores:
        raise StepFailed("no store is configured (stores: in the configuration, or --store)")
    for store in stores:
        rows = judge.context.ledger.artifacts.all(run=judge.context.run, store=store.url, state=VERIFIED)
        verified = {row.name for row in rows}
        verified |= {
            member.name for pack in judge.packs.values() for member in pack.members if pack.file.name in verified
        }
        if bad := next((f for f in files if f.name not in verified), None):
            raise StepFailed(f"{bad.name} is not verified in {store.url}")
    total = sum(f.bytes for f in files)
    return f"{_count(files)}, {total:,} bytes verified in {', '.join(s.url for s in stores)}"


def _pulled(judge: Deliverables, wanted: Deliverable) -> str:
    judge.made(wanted.pulled or "")
    files = judge.artifacts(wanted.pulled or "")
    if judge.home is None:
        raise _LaterError
    return _whole(files, judge.home)


def _whole(files: Sequence[ManifestFile], home: Path) -> str:
    for file in files:
        path = home / file.name
        if not path.exists() or path.stat().st_size != file.bytes:
            raise StepFailed(f"{file.name} is not whole in {home}")
    return f"{_count(files)} in {home}"


def at_home(
    context: Context, phase: Phase, files: Sequence[ManifestFile], home: Path, packs: Mapping[str, Pack] = {}
) -> None:
    """Answer what `judge` left open: these files have come home, and so has what the tars among them hold."""
    answered = {row.name for row in context.ledger.deliverables.all(run=context.run, phase=phase.name)}
    for position, wanted in enumerate(phase.deliverables):
        if wanted.pulled and wanted.name not in answered:
            found = _whole(like(files, packs, wanted.pulled), home)
            note(context, phase.name, position, Answer(wanted.name, ok=True, detail=found))


def note(context: Context, phase: str, position: int, answer: Answer) -> None:
    """Write an answer down."""
    row = DeliverableRow(
        run=context.run, phase=phase, name=answer.name, position=position, ok=answer.ok, detail=answer.detail
    )
    context.ledger.deliverables.put(row)


def _count(found: Sequence[object], what: str = "file") -> str:
    return f"1 {what}" if len(found) == 1 else f"{len(found)} {what}s"


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
