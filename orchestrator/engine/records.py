"""Done-records: beside the data on the volume, keyed by all that the result depends on; checked, not believed.

A step has one record, and none from the moment when it begins to run again: what it leaves then is not known.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from orchestrator.engine.context import Context
from orchestrator.engine.effects import Attempt
from orchestrator.ledger.rows import FigureRow, RecordRow
from orchestrator.plan import StepRun
from orchestrator.plan.globs import matches
from orchestrator.transport.agent import Agent
from orchestrator.transport.shapes import Count, Figure, Figures, Output, Sum, Text, json_in, shaped
from orchestrator.words.spec import plain

FOLDER = ".gpuplan/done"
REF, COMMIT = re.compile(r"refs(/[\w.-]*\w[\w.-]*)+"), re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # as git writes them
LONGEST_NAME = 60  # characters that are shown of a name from a volume


@dataclass(frozen=True, slots=True)
class CreatedFile:
    """A file that a step made: its path below the step's cwd.

    `sha256` is what the step itself said while it wrote it ("": nothing); `samples` the agent's checksum of pieces.
    """

    path: Text
    bytes: Count
    sha256: Sum = ""
    samples: Sum = ""

    def is_still(self, there: CreatedFile | None) -> bool:
        """Whether what is there is this file, as far as a look at it tells. Older records say no more than the size."""
        return there is not None and there.bytes == self.bytes and self.samples in ("", there.samples)


@dataclass(frozen=True, slots=True)
class StepFigure:
    """A figure of one node of a step."""

    node: Count
    name: Text
    value: Figure
    measured_on: Text = ""
    device: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneRecord:
    """What lies on the volume, as JSON of these very names. Versions to come read it: fields are added, never changed.

    `at` is in Unix seconds; `log` and `stdout` are the ends of what the step printed, both outputs and the first alone;
    a byte that is no text is half a surrogate pair in them.
    Version 0.1.0 wrote `metrics`, without anybody's word on where they were measured, and no `stdout`.
    """

    step: Text = ""
    key: Text
    run: Text = ""
    machine: Text = ""
    at: Figure = 0.0
    files: tuple[CreatedFile, ...]
    log: Output = ""
    metrics: Figures = field(default_factory=dict)
    clones: dict[Text, Text] = field(default_factory=dict)  # folder below cwd -> the commit that a clone of it is at
    commit: Text = ""  # of the hub's repository that was downloaded; "": none was, or by a version that did not say
    stdout: Output = ""
    figures: tuple[StepFigure, ...] = ()


def created(agent: Agent, workspace: str, run: StepRun, *, strict: bool = False) -> list[CreatedFile]:
    """The files that a step says it creates, as they are now. `strict`: see Agent.files."""
    root = posixpath.normpath(posixpath.join(workspace, run.step.cwd))
    beside = [p for p in run.step.creates if p.startswith("../")]  # `creates` may name a sibling of cwd
    below = [p for p in run.step.creates if p not in beside]
    files = agent.files(root, below, samples=True, strict=strict) if below else []
    siblings = (
        agent.files(posixpath.dirname(root), [p[3:] for p in beside], samples=True, strict=strict) if beside else []
    )
    found = [CreatedFile(f.path, f.bytes, samples=f.samples) for f in files]
    found += [CreatedFile(f"../{f.path}", f.bytes, samples=f.samples) for f in siblings]
    return sorted(found, key=lambda f: f.path)


def with_checksums(files: Sequence[CreatedFile], said: Mapping[str, str], folder: str) -> list[CreatedFile]:
    """The files with what their step said of them (`said`: absolute path -> sha256); it ran in `folder`."""
    paths = [posixpath.normpath(posixpath.join(folder, file.path)) for file in files]
    return [replace(file, sha256=said.get(path, "")) for file, path in zip(files, paths, strict=True)]


def clones(agent: Agent, folder: str, files: Sequence[CreatedFile]) -> dict[str, str]:
    """Folder -> commit of every clone of git's among the files, which lie below `folder`. It asks git for nothing."""
    found = {}
    for file in files:
        if posixpath.basename(posixpath.dirname(file.path)) == ".git" and file.path.endswith("/HEAD"):
            git = posixpath.dirname(posixpath.join(folder, file.path))
            head = (agent.read(f"{git}/HEAD") or "").strip()
            ref = head.removeprefix("ref: ")
            packed = agent.read(f"{git}/packed-refs") or "" if ref != head else ""
            loose = (agent.read(posixpath.join(git, ref)) or "").strip() if REF.fullmatch(ref) else head
            listed = next((line.split()[0] for line in packed.splitlines() if line.endswith(f" {ref}")), "")
            commit = next((text for text in (loose, listed) if COMMIT.fullmatch(text)), "")
            found[posixpath.dirname(posixpath.dirname(file.path)) or "."] = commit or "unknown"
    return found


def read(context: Context, agent: Agent, workspace: str, run: StepRun) -> DoneRecord | None:
    """The volume's record of this very step, if every file that it names is still what it was; else None."""
    text = agent.read(path(run))
    record = None if text is None else parse(text)
    if record is None or record.key not in context.accepted[run.id]:
        return None
    present = {f.path: f for f in created(agent, workspace, run)}
    return record if all(f.is_still(present.get(f.path)) for f in record.files) else None


def is_known(context: Context, record: DoneRecord, step: str, volume: str) -> bool:
    """Whether this ledger has a copy of that record; what is on no volume nobody else can have written."""
    return not volume or context.ledger.records.maybe(volume=volume, step=step, key=record.key) is not None


def whose(record: DoneRecord) -> str:
    """Who wrote a record, in words. They are the volume's: no more than letters and digits of them is shown."""
    machine = f" on {plain(record.machine)[:LONGEST_NAME]}" if record.machine else ""
    return f"run {plain(record.run)[:LONGEST_NAME] or 'unknown'}{machine}"


def published(agent: Agent, steps: Sequence[StepRun]) -> dict[str, str]:
    """Path below the workspace -> the sha256 that its step published, by the volume's records; later steps win."""
    found = {}
    for step in steps:
        record = read_as(agent, step.id) if step.step.creates else None
        for file in record.files if record else ():
            if file.sha256:
                found[posixpath.normpath(posixpath.join(step.step.cwd, file.path))] = file.sha256
    return found


def commit_of(agent: Agent, run: StepRun) -> str:
    """The commit that the step's record on the volume says it downloaded; "": it says none."""
    record = read_as(agent, run.id)
    return record.commit if record else ""


def read_as(agent: Agent, step: str) -> DoneRecord | None:
    """What lies there as the record of the step of that id, whatever it is worth; None: no record."""
    return parse(agent.read(_path(step)) or "")


def parse(text: str) -> DoneRecord | None:
    """A record from its JSON. None: a half-written or foreign file, which proves nothing: the step runs."""
    try:
        found = json_in(text.encode("utf-8", "replace"))
        older = {"stdout": found["log"]} if isinstance(found, dict) and "log" in found else {}
        return shaped(DoneRecord, {**older, **found} if isinstance(found, dict) else found)
    except ValueError:
        return None


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
    return _path(run.id)


def _path(step: str) -> str:
    return f"{FOLDER}/{step.replace('/', '.')}.json"


def figures_of(context: Context, end: Attempt, machine: str) -> list[StepFigure]:
    """What was measured on that machine: by the step's program, with its own word on where, and by the agent.

    What the agent samples of a card that a CPU stands in for is no card's.
    """
    node = context.ledger.machines.get(name=machine).node
    figures = [StepFigure(node, name, f.value, f.measured_on, f.device) for name, f in end.figures.items()]
    cards = ", ".join(end.cards) if context.provider.shows_gpu else ""
    seen = f"sampled on {cards}" if cards else "sampled, no GPU at work"
    return figures + [StepFigure(node, name, value, seen, cards) for name, value in end.peaks.items()]


def keep(context: Context, step: str, figures: Iterable[StepFigure]) -> None:
    """Write the step's figures into the ledger, over those that it had."""
    at = context.now()
    for figure in figures:
        context.ledger.figures.put(FigureRow(run=context.run, step=step, at=at, **asdict(figure)))
