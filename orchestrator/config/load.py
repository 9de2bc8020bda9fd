"""YAML files -> a Plan, or every mistake in them at once."""

from __future__ import annotations

import os
from collections.abc import Mapping as Map
from decimal import Decimal
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from orchestrator.config.document import Mapping, Node, Scalar, read_file
from orchestrator.config.inputs import check_samples, with_step
from orchestrator.config.layers import read_settings
from orchestrator.config.matrix import expand, variants_of
from orchestrator.config.phase_checks import check_phase
from orchestrator.config.plan_checks import Document, check_code, check_defaults, check_plan, in_order
from orchestrator.config.problems import KeyPath, Place, Problems, nearest
from orchestrator.config.publish_checks import check_texts
from orchestrator.config.sources import PHASES, PROJECT_FILE, Sources, find, phase_files
from orchestrator.config.validate import Source, validate
from orchestrator.plan.notes import COMPUTED, BadFormula, names_in
from orchestrator.words import files
from orchestrator.words.model import OF_THE_PLAN, Defaults, Expected, Former, Note, Notes, Phase, Plan, Settings


def load_plan(
    folder: Path | None = None,
    *,
    config: Path | None = None,
    environ: Map[str, str] = os.environ,
    overrides: Map[str, object] = {},
) -> Plan:
    """Read the plan in `folder` (None: the one that comes with gpuplan) with its settings.

    `config` replaces the project's own files (gpuplan.yaml, and configs/default.yaml beside phases/). `overrides` are
    flags by setting name, where None means not given. ConfigErrors: everything that is wrong. UsageError: no plan.
    """
    sources = find(folder, config)
    problems = Problems()
    documents, broken = _read_phases(sources.phases, problems)
    layers = [_layer(path, sources, problems) for path in sources.settings]
    settings = read_settings(layers, environ, overrides, problems)
    folder = sources.folder or files.shipped()
    documents = [Document(settings.defaults.apply(one.phase), one.source) for one in documents]
    for document in documents:
        check_samples(document.phase.inputs, document.source, folder)
    documents = [Document(with_step(one.phase, folder), one.source) for one in documents]
    check_defaults(documents, settings)
    check_plan(documents, broken)
    if not problems.found:
        check_code(documents, settings)
    phases = tuple(document.phase for document in in_order(documents))
    steps = {f"{phase.name}/{step.name}" for phase in phases for step in phase.steps if not broken}
    notes = _read_notes(sources.notes, steps, problems) if sources.notes else Notes()
    formers = _read_formers(sources.former, problems) if sources.former else ()
    if settings.publish:
        check_texts(settings.publish, folder, steps, problems)
    problems.raise_all()
    return Plan(
        name=settings.plan or sources.name,
        folder=str(sources.folder.resolve()) if sources.folder else "",
        read=tuple(str(path) for path in sources.settings[sources.own :]),
        phases=phases,
        settings=settings,
        notes=notes,
        formers=formers,
    )


def read_budget(text: str) -> Decimal | None:
    """What --max-usd says, in USD. ConfigErrors: it is no amount, or none that a budget may be."""
    problems = Problems()
    found = read_settings([], {}, {"budget_usd": text}, problems)
    problems.raise_all()
    return found.budget_usd


def _layer(path: Path, sources: Sources, problems: Problems) -> Node:
    """One file of settings; what names files of a plan counts in that plan's own only."""
    node = read_file(path, problems)
    if path == sources.elsewhere and isinstance(node, Mapping):
        return Mapping(node.place, {key: found for key, found in node.entries.items() if key not in OF_THE_PLAN})
    return node


def _read_formers(path: Path, problems: Problems) -> tuple[Former, ...]:
    try:
        return TypeAdapter(tuple[Former, ...]).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        problems.add(Place(str(path)), f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        return ()


def load_file(path: Path) -> Phase | Settings:
    """Read one file, a phase or settings, and check it; a phase together with the other phases of its folder.

    ConfigErrors: everything that is wrong in this file (what is wrong in its neighbours is theirs).
    """
    problems = Problems()
    node = read_file(path, problems)
    problems.raise_all()
    if path.name == PROJECT_FILE or not _is_phase(node):
        settings = read_settings([node], {}, {}, problems)
        problems.raise_all()
        return settings
    neighbours = [other for other in phase_files(path.parent) if other.name != path.name and _has_steps(other)]
    others, broken = _read_phases(tuple(neighbours), Problems(), (path,))
    own, _ = _read_phases((path,), problems, tuple(neighbours))
    defaults = _defaults_beside(path)
    folder = path.parent.parent if path.parent.name == PHASES else path.parent
    for document in own:
        check_samples(defaults.apply(document.phase).inputs, document.source, folder)
    documents = [Document(with_step(defaults.apply(one.phase), folder), one.source) for one in [*others, *own]]
    check_plan(documents, broken)
    problems.raise_all()
    return documents[-1].phase


def _defaults_beside(path: Path) -> Defaults:
    """What the plan of a phase file says for every phase; what is wrong in its settings is theirs."""
    for folder in (path.parent, path.parent.parent):
        if (file := folder / PROJECT_FILE).is_file():
            return read_settings([read_file(file, Problems())], {}, {}, Problems()).defaults
    return Defaults()


def _read_phases(
    paths: tuple[Path, ...], problems: Problems, beside: tuple[Path, ...] = ()
) -> tuple[list[Document], frozenset[str]]:
    """The phases that could be read, and the names of those that could not (a need of theirs is no mistake).

    `beside`: other files of the plan, whose steps they may need.
    """
    nodes = {path: read_file(path, problems) for path in paths}
    variants = variants_of([*nodes.values(), *(read_file(path, Problems()) for path in beside)])
    documents = []
    broken = set()
    for path, read in nodes.items():
        node = expand(read, variants, problems)
        phase, source = validate(Phase, node, problems)
        if phase is None:
            name = node.get("name") if isinstance(node, Mapping) else None
            broken.update({path.stem, name.text} if isinstance(name, Scalar) else {path.stem})
            continue
        check_phase(phase, source)
        documents.append(Document(phase, source))
    return documents, frozenset(broken)


def _read_notes(path: Path, steps: set[str], problems: Problems) -> Notes:
    found, source = validate(Notes, read_file(path, problems), problems)
    notes = found or Notes()
    known = {*COMPUTED, *notes.figures}
    for index, note in enumerate(notes.notes):
        _check_formulas(note, ("notes", index), known, source)
    for index, expected in enumerate(notes.expected):
        _check_formulas(expected, ("expected", index), known, source)
        if expected.step and steps and expected.step not in steps:  # no steps: a phase could not be read
            message = f"the plan has no step {expected.step}"
            source.wrong(("expected", index, "step"), message, nearest(expected.step, steps))
    return notes


def _check_formulas(item: Note | Expected, at: KeyPath, known: set[str], source: Source) -> None:
    for key, text in item.sentences().items():
        try:
            for name in sorted(names_in(text) - known):
                source.wrong((*at, key), f"there is no figure {name}", nearest(name, known))
        except BadFormula as error:
            source.wrong((*at, key), str(error))


def _has_steps(path: Path) -> bool:
    node = read_file(path, Problems())
    return isinstance(node, Mapping) and node.get("steps") is not None


def _is_phase(node: Node) -> bool:
    """A file is a phase unless all that it has are settings."""
    if not isinstance(node, Mapping):
        return True
    keys = node.entries.keys()
    return len(keys & Phase.model_fields.keys()) >= len(keys & Settings.model_fields.keys())
