"""What must hold between the phases of a plan: needs, reuse, volumes, and no circle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from math import ceil

from orchestrator.config.problems import KeyPath, nearest
from orchestrator.config.validate import Source
from orchestrator.words.model import Phase, Settings


@dataclass(frozen=True)
class Document:
    """One phase and where its parts stand in its file."""

    phase: Phase
    source: Source

    def wrong(self, path: KeyPath, message: str, remedy: str = "") -> None:
        """Note a mistake at this place of the file."""
        self.source.wrong(path, message, remedy)


def check_plan(documents: Sequence[Document], broken: frozenset[str] = frozenset()) -> None:
    """Note everything that is wrong between phases. `broken`: phases that exist but could not be read whole."""
    phases = {document.phase.name: document for document in documents}
    for document in documents:
        _check_needs(document, phases, broken)
        _check_reuse(document, phases, broken)
        _check_checkpoints(document, documents)
    _check_names(documents)
    _check_volumes(documents)
    _check_room(documents)
    _check_cycles(documents)


def check_code(documents: Sequence[Document], settings: Settings) -> None:
    """Note every step that depends on code which the settings do not name."""
    for document in documents:
        for index, step in enumerate(document.phase.steps):
            wants = "builtin" if step.builtin == "overlay" else "uses" if step.uses else ""
            if wants and not settings.code:
                message = f"{step.name} asks for the plan's code, and there is none"
                document.wrong(("steps", index, wants), message, "say in gpuplan.yaml which folder it is: code: FOLDER")


def check_defaults(documents: Sequence[Document], settings: Settings) -> None:
    """Note every phase that takes a variable of the plan's defaults for a secret: env is shown and logged."""
    for document in documents:
        for name in sorted(settings.defaults.env.keys() & set(document.phase.secrets)):
            remedy = "leave it out of defaults: in gpuplan.yaml, or out of secrets"
            document.wrong(("secrets",), f"{name} is in the plan's default env too", remedy)


def in_order(documents: Sequence[Document]) -> list[Document]:
    """Return the phases in the order of their files, moved only where a phase needs a later one."""
    by_name = {document.phase.name: document for document in documents}
    graph = {name: _phases_needed(document) & by_name.keys() for name, document in by_name.items()}
    done: list[str] = []
    while len(done) < len(by_name):
        ready = [name for name in by_name if name not in done and graph[name] <= set(done)]
        done.append(ready[0] if ready else next(name for name in by_name if name not in done))
    return [by_name[name] for name in done]


def _phases_needed(document: Document) -> set[str]:
    own = document.phase.name
    named = {need.split("/")[0] for step in document.phase.steps for need in step.needs if "/" in need}
    return (named | ({document.phase.machine.reuse} - {None} if document.phase.machine.reuse else set())) - {own}


def _check_needs(document: Document, phases: dict[str, Document], broken: frozenset[str]) -> None:
    own = [step.name for step in document.phase.steps]
    for index, step in enumerate(document.phase.steps):
        for nth, need in enumerate(step.needs):
            at: KeyPath = ("steps", index, "needs", nth)
            phase, slash, name = need.rpartition("/")
            if not slash:
                if need not in own:
                    document.wrong(at, f"this phase has no step {need}", _anywhere(need, own, phases))
            elif phase in broken:
                continue
            elif phase not in phases:
                document.wrong(at, f"there is no phase {phase}", nearest(phase, phases))
            else:
                _check_foreign(document, at, phases[phase], name)


def _anywhere(need: str, own: list[str], phases: dict[str, Document]) -> str:
    """The nearest name of this phase, or the phase that has a step of exactly that name."""
    homes = [f"{name}/{need}" for name, other in phases.items() if any(s.name == need for s in other.phase.steps)]
    return f"did you mean {homes[0]}?" if homes else nearest(need, own)


def _check_foreign(document: Document, at: KeyPath, other: Document, name: str) -> None:
    steps = {step.name: step for step in other.phase.steps}
    phase = other.phase.name
    if name not in steps:
        remedy = nearest(f"{phase}/{name}", [f"{phase}/{step}" for step in steps])
        document.wrong(at, f"phase {phase} has no step {name}", remedy)
        return
    if phase == document.phase.name:
        return
    if steps[name].ready:
        document.wrong(at, f"{phase}/{name} is a service: it ends with its phase")
    if document.phase.volume is None or document.phase.volume != other.phase.volume:
        document.wrong(
            at,
            f"what {phase}/{name} made is not on this phase's volume",
            f"give both the same volume: {_volume(other)}",
        )


def _volume(document: Document) -> str:
    volume = document.phase.volume
    return f"{{name: {volume.name}, size_gb: {volume.size_gb}}}" if volume else f"{document.phase.name} has none"


def _check_reuse(document: Document, phases: dict[str, Document], broken: frozenset[str]) -> None:
    reuse = document.phase.machine.reuse
    if reuse is None or reuse in broken:
        return
    if reuse not in phases:
        document.wrong(("machine", "reuse"), f"there is no phase {reuse}", nearest(reuse, phases))
    elif phases[reuse].phase.volume != document.phase.volume:
        document.wrong(("machine", "reuse"), f"the machine of {reuse} has another volume")


def _check_checkpoints(document: Document, documents: Sequence[Document]) -> None:
    folders = {step.hub.dir.strip("/") for other in documents for step in other.phase.steps if step.hub}
    for index, deliverable in enumerate(document.phase.deliverables):
        folder = deliverable.checkpoint
        if folder and folder.strip("/") not in folders:
            message = f"no step says with hub which repository {folder} holds"
            document.wrong(("deliverables", index, "checkpoint"), message, nearest(folder, folders))


def _check_names(documents: Sequence[Document]) -> None:
    first: dict[str, Document] = {}
    for document in documents:
        earlier = first.setdefault(document.phase.name.lower(), document)
        if earlier is not document:
            message = f"phase {document.phase.name} is there twice, first in {earlier.source.place('name')}"
            document.wrong(("name",), message, "rename one")


def _check_volumes(documents: Sequence[Document]) -> None:
    first: dict[str, Document] = {}
    for document in documents:
        if not document.phase.volume:
            continue
        earlier = first.setdefault(document.phase.volume.name, document)
        if earlier.phase.volume != document.phase.volume:
            message = f"volume {document.phase.volume.name} has another size in {earlier.source.place('volume')}"
            document.wrong(("volume",), message, "give it one size")


def _check_room(documents: Sequence[Document]) -> None:
    """A volume that is smaller than what all steps on it say they write will be full when it has cost the most."""
    sharers: dict[str, list[Document]] = {}
    for document in documents:
        if document.phase.volume:
            sharers.setdefault(document.phase.volume.name, []).append(document)
    for name, (first, *others) in sharers.items():
        total = sum(map(_written, (first, *others)), _fetched([first, *others]))
        size = first.phase.volume.size_gb if first.phase.volume else 0
        if total > size:
            message = f"volume {name} has {size} GB, and the steps on it write {total} GB"
            first.wrong(("volume", "size_gb"), message, f"write size_gb: {ceil(total)} or more, in each phase")


def _check_cycles(documents: Sequence[Document]) -> None:
    steps: dict[str, tuple[Document, KeyPath]] = {}
    graph: dict[str, list[str]] = {}
    for document in documents:
        own = document.phase.name
        for index, step in enumerate(document.phase.steps):
            steps[f"{own}/{step.name}"] = (document, ("steps", index, "needs"))
            graph[f"{own}/{step.name}"] = [need if "/" in need else f"{own}/{need}" for need in step.needs]
    known = {step: [need for need in needs if need in graph] for step, needs in graph.items()}
    try:
        TopologicalSorter(known).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1][::-1]  # each needs the next; the last is the first again
        start = min(range(len(circle) - 1), key=lambda at: list(graph).index(circle[at]))
        circle = [*circle[start:-1], *circle[: start + 1]]
        document, at = steps[circle[0]]
        names = [step.removeprefix(f"{document.phase.name}/") for step in circle]
        document.wrong(at, f"these steps need each other: {' -> '.join(names)}", "remove one of these needs")


def _written(document: Document) -> Decimal:
    """GB that the steps of a phase say they write, its inputs left out."""
    steps = (step for step in document.phase.steps if step.builtin != "inputs")
    return sum((step.writes_gb for step in steps), Decimal(0))


def _fetched(documents: Sequence[Document]) -> Decimal:
    """GB of all their inputs; what several phases name lies there once."""
    sizes = {(one.source, one.to): one.gb for document in documents for one in document.phase.inputs}
    return sum(sizes.values(), Decimal(0))
