"""A phase's inputs: from stores to the volume, by requests that are signed here and sent by the machine.

What has come is written down beside the data by the store's own tags: what is there of the same tag and size is not
fetched again. A done-record keeps what all of it was when it came; another state makes the steps that use it run again.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.engine import records
from orchestrator.engine.context import Context
from orchestrator.engine.transfers import INPUT, Transfer
from orchestrator.engine.uploads import Patience
from orchestrator.plan import StepRun
from orchestrator.plan.resolve import all_steps
from orchestrator.transport.agent import Agent
from orchestrator.transport.replies import Fetched
from orchestrator.transport.shapes import Text, json_in, shaped
from orchestrator.words.errors import GpuplanError, StepFailed, StoreBusy, StoreUnavailable
from orchestrator.words.model import Input
from orchestrator.words.source import SourceFile, Wanted

FOLDER = ".gpuplan/inputs"
BATCH = 32  # files that are asked for together: their signatures expire
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Arrival:
    """One file that is to be on the volume: from where, and at which path below the workspace."""

    one: Input
    file: SourceFile

    @property
    def path(self) -> str:
        """Below the workspace."""
        return posixpath.normpath(self.one.to if self.one.is_file else posixpath.join(self.one.to, self.file.name))


def listed(context: Context, wanted: Iterable[Input]) -> list[Arrival]:
    """All that the inputs name, as their stores have it now. StepFailed: nothing is there, or it has no place here."""
    found: dict[str, Arrival] = {}
    for one in wanted:
        files = context.source(one).listing()
        if not files:
            raise StepFailed(f"there is nothing at {one.source}", remedy="correct `from` in the phase's inputs")
        for file in files:
            arrival = Arrival(one, file)
            if posixpath.normpath(file.name) != file.name or file.name.startswith(("/", "../")) or file.name == "..":
                raise StepFailed(f"{one.source}: {file.name!r} is no path below {one.to}", remedy="rename the object")
            if arrival.path in found:
                raise StepFailed(f"two inputs are {arrival.path}", remedy="give them another `to` each")
            found[arrival.path] = arrival
    return list(found.values())


def state_of(arrivals: Iterable[Arrival]) -> str:
    """What stands for this very content of all of them."""
    rows = sorted((a.one.source, a.path, a.file.bytes, a.file.etag) for a in arrivals)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def has_changed(context: Context, step: StepRun, record: records.DoneRecord) -> bool:
    """Whether the stores have something else than what the record says came. Where they do not say, it holds."""
    try:
        return state_of(listed(context, step.inputs)) != record.commit
    except GpuplanError as error:
        context.event(f"{step.id}: whether it has changed is not known: {error.message}")
        return False


def changed(context: Context, agent: Agent, steps: Sequence[StepRun]) -> list[str]:
    """Those of the steps whose inputs have changed since they came, and those that need them."""
    found = set[str]()
    for step in steps:
        if step.inputs and (record := records.read(context, agent, agent.workspace, step)):
            found |= {step.id} if has_changed(context, step, record) else set()
    return [step.id for step in steps if step.id in found | dependents(context, found)]


def dependents(context: Context, changed_ones: Iterable[str]) -> set[str]:
    """The ids of the plan's steps that need one of these, however far."""
    steps, found = all_steps(context.spec.plan), set(changed_ones)
    while more := {s.id for s in steps.values() if s.id not in found and found & set(s.needs)}:
        found |= more
    return found - set(changed_ones)


def renew(context: Context, agent: Agent, step: StepRun) -> None:
    """Say that the inputs have changed, and forget what was made of them: it is made anew."""
    context.event(f"{step.id}: the store has something else than what is on the volume: it is fetched again")
    steps = all_steps(context.spec.plan)
    for other in dependents(context, [step.id]):
        agent.remove(records.path(steps[other]))
        for key in context.accepted[other]:
            context.ledger.records.remove(step=other, key=key)


def to_come(agent: Agent, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Those that are not on the volume as their stores have them."""
    there: dict[str, int] = {}
    for folder, pattern in sorted({_place(a.one) for a in arrivals}):
        root = posixpath.normpath(posixpath.join(agent.workspace, folder))
        there |= {posixpath.normpath(f"{folder}/{f.path}"): f.bytes for f in agent.files(root, [pattern])}
    tags = {source: _tags(agent, source) for source in {a.one.source for a in arrivals}}
    return [a for a in arrivals if there.get(a.path) != a.file.bytes or tags[a.one.source].get(a.path) != a.file.etag]


class Fetching:
    """The inputs of one phase on their way to its volume."""

    def __init__(self, context: Context, phase: str, step: StepRun) -> None:
        self._context, self._step = context, step
        self._arrivals = listed(context, step.inputs)
        self._transfers = {one.source: Transfer(context, phase, INPUT, one.source) for one in step.inputs}
        self._patience, self._came = Patience(context), list[Arrival]()
        self.moved = 0  # bytes: they grow while this gets somewhere

    def run(self, agent: Agent) -> None:
        """Bring what is not there. StepFailed, StoreUnavailable: what did not come.

        May be asked again after a cut: what has come stays.
        """
        missing = to_come(agent, self._arrivals)
        absent = {a.path for a in missing}
        for source, transfer in self._transfers.items():
            own = [a for a in self._arrivals if a.one.source == source]
            transfer.expect({a.path: a.file.bytes for a in own}, [a.path for a in own if a.path not in absent])
        while missing:
            self._context.control.check()
            done = self._fetch(agent, missing[:BATCH])
            missing = [a for a in missing if a not in done]

    def _fetch(self, agent: Agent, batch: Sequence[Arrival]) -> list[Arrival]:
        """Ask for some of them, and return what came.

        What the store refuses is signed and asked for again, as long as it is waited for.
        """
        last = dict.fromkeys(range(len(batch)), 0)
        failed: list[tuple[Arrival, Fetched]] = []
        done: list[Arrival] = []

        def hear(line: Fetched) -> None:
            arrival = batch[line.file]
            transfer = self._transfers[arrival.one.source]
            moved, last[line.file] = max(line.arrived - last[line.file], 0), line.arrived
            transfer.arrived(arrival.path, line.arrived, moved)
            if moved:
                self.moved += moved
                self._patience.renew()
            if line.done:
                done.append(arrival)
                transfer.whole(arrival.path)
            elif line.error:
                failed.append((arrival, line))

        try:
            agent.get([self._wanted(arrival) for arrival in batch], hear)
        finally:
            self._note(agent, done)
        if failed:
            self._wait(*failed[0])
        self._came += [a for a in done if a not in self._came]
        return done

    @property
    def said(self) -> str:
        """What was fetched, in words."""
        size, there = sum(a.file.bytes for a in self._came), len(self._arrivals) - len(self._came)
        fetched = f"{len(self._came)} files, {size:,} bytes"
        return f"fetched {fetched}{f'; {there} files were there' if there else ''}"

    def _wanted(self, arrival: Arrival) -> Wanted:
        source, file = self._context.source(arrival.one), arrival.file
        said = source.about(file)
        if said is None or said.bytes != file.bytes:
            raise StepFailed(
                f"{arrival.one.source}: {file.name} changed while it was fetched",
                remedy="run it again: it is listed anew",
            )
        ours = said.crc32 if file.key and arrival.one.source.startswith("s3:") else None  # Google's is another CRC
        return Wanted(
            arrival.path, file.bytes, file.etag, source.signed_get(file), ours or "", said.md5 or "", said.sha256 or ""
        )

    def _wait(self, arrival: Arrival, line: Fetched) -> None:
        text = f"{arrival.one.source}: {arrival.file.name}: {line.error}"
        self._context.event(text, minor=True)
        if line.status in (404, 412):
            raise StepFailed(f"{text}: it changed while it was fetched", remedy="run it again: it is listed anew")
        kind = StoreBusy if line.status in StoreBusy.STATUSES else StoreUnavailable
        self._patience.wait(kind(text, remedy="what has arrived is kept: run it again"))

    def _note(self, agent: Agent, done: Sequence[Arrival]) -> None:
        """Write down on the volume which content of each file is there."""
        for source in {a.one.source for a in done}:
            tags = _tags(agent, source) | {a.path: a.file.etag for a in done if a.one.source == source}
            agent.write(_state(source), json.dumps(tags))


def arrived(context: Context, agent: Agent, step: StepRun) -> str:
    """What stands for the content that is there now. StepFailed: the stores have another one already."""
    arrivals = listed(context, step.inputs)
    if late := to_come(agent, arrivals):
        names = ", ".join(a.path for a in late[:SHOWN])
        raise StepFailed(f"{step.id}: changed while it was fetched: {names}", remedy="run it again: the rest is kept")
    return state_of(arrivals)


def need_gb(context: Context, agent: Agent, step: StepRun) -> float:
    """GB that are still to come."""
    return sum(a.file.bytes for a in to_come(agent, listed(context, step.inputs))) / 1e9


def _place(one: Input) -> tuple[str, str]:
    """In which folder of the workspace it lies, and what of that it is."""
    return posixpath.split(one.to) if one.is_file else (one.to, "**")


def _state(source: str) -> str:
    return f"{FOLDER}/{hashlib.sha256(source.encode()).hexdigest()[:24]}.json"


def _tags(agent: Agent, source: str) -> dict[str, str]:
    """Path -> tag of what came from there, as the volume has it noted; {}: nothing, or nothing that can be read."""
    try:
        found: dict[str, str] = shaped(dict[Text, Text], json_in((agent.read(_state(source)) or "").encode()))
    except ValueError:
        return {}
    return found
