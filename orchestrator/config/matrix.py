"""`matrix:` of a step: one step for each combination of its values, with `${{ matrix.NAME }}` replaced in its texts.

All of it happens on the tree of nodes, so that every mistake in a variant has its place in the file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from collections.abc import Mapping as Map

from orchestrator.config.document import Mapping, Node, Scalar, Sequence
from orchestrator.config.problems import Problems, nearest

MOST = 100  # steps that one may become
_USED = re.compile(r"\$\{\{\s*matrix\.([A-Za-z0-9_]*)\s*\}\}")


def variants_of(phases: Iterable[Node]) -> dict[str, list[str]]:
    """PHASE/STEP of each step with a matrix -> PHASE/STEP of those that it becomes."""
    found: dict[str, list[str]] = {}
    for phase in phases:
        name = phase.get("name") if isinstance(phase, Mapping) else None
        if isinstance(name, Scalar):
            _, variants = _expanded(_steps(phase), Problems())
            found |= {f"{name.text}/{step}": [f"{name.text}/{one}" for one in all_] for step, all_ in variants.items()}
    return found


def expand(phase: Node, others: Map[str, list[str]], problems: Problems) -> Node:
    """The phase with its variants in place of each step that has a matrix; needs and deliverables mean all of them.

    `others`: variants_of the plan's phases.
    """
    if not isinstance(phase, Mapping) or not isinstance(steps := phase.get("steps"), Sequence):
        return phase
    found, variants = _expanded(steps.items, problems)
    entries = dict(phase.entries)
    needing = [_needing(step, {**others, **variants}) for step in found]
    entries["steps"] = (entries["steps"][0], Sequence(steps.place, tuple(needing)))
    asked = phase.get("deliverables")
    if isinstance(asked, Sequence):
        entries["deliverables"] = (entries["deliverables"][0], _asking(asked, variants))
    return Mapping(phase.place, entries)


def _steps(phase: Node) -> tuple[Node, ...]:
    steps = phase.get("steps") if isinstance(phase, Mapping) else None
    return steps.items if isinstance(steps, Sequence) else ()


def _expanded(steps: Iterable[Node], problems: Problems) -> tuple[list[Node], dict[str, list[str]]]:
    """All steps, and the names of those that a name with a matrix stands for."""
    found: list[Node] = []
    variants: dict[str, list[str]] = {}
    for step in steps:
        values = step.get("matrix") if isinstance(step, Mapping) else None
        if not isinstance(step, Mapping) or values is None:
            found.append(step)
            continue
        made = _variants(step, values, problems)
        if isinstance(written := step.get("name"), Scalar):
            variants[written.text] = [name.text for one in made if isinstance(name := one.get("name"), Scalar)]
        found += made
    return found, variants


def _variants(step: Mapping, values: Node, problems: Problems) -> list[Mapping]:
    """One step for each combination; the step itself, once, where its matrix is none."""
    rest = Mapping(step.place, {key: entry for key, entry in step.entries.items() if key != "matrix"})
    lists: dict[str, list[Scalar]] = {}
    if isinstance(values, Mapping):
        for name, (_, listed) in values.entries.items():
            items = listed.items if isinstance(listed, Sequence) else ()
            lists[name] = [item for item in items if isinstance(item, Scalar)]
            if not lists[name] or len(lists[name]) < len(items):
                problems.add(listed.place, f"matrix.{name} is a list of values", f"write {name}: [1, 2]")
    if not lists or not all(lists.values()):
        if not isinstance(values, Mapping) or not values.entries:
            problems.add(values.place, "a matrix has names with lists of values", "write matrix: {rate: [1e-4, 1e-5]}")
        return [rest]
    combinations = list(itertools.islice(itertools.product(*lists.values()), MOST + 1))
    if len(combinations) > MOST:
        problems.add(values.place, f"this step would become more than {MOST}", "take fewer values")
        return [rest]
    _require_known(rest, lists, problems)
    made = []
    for combination in combinations:
        given = {name: value.text for name, value in zip(lists, combination, strict=True)}
        one = _filled(rest, given)
        assert isinstance(one, Mapping)
        written = rest.get("name")
        if isinstance(written, Scalar) and not _USED.search(written.text):
            longer = Scalar(written.place, "-".join([written.text, *given.values()]), written.plain)
            one = Mapping(one.place, {**one.entries, "name": (one.entries["name"][0], longer)})
        made.append(one)
    return made


def _require_known(node: Node, known: Map[str, object], problems: Problems) -> None:
    """Every name that is used is one of the matrix."""
    if isinstance(node, Scalar):
        for name in _USED.findall(node.text):
            if name not in known:
                problems.add(node.place, f"the matrix has no {name}", nearest(name, known))
    elif isinstance(node, Sequence):
        for item in node.items:
            _require_known(item, known, problems)
    elif isinstance(node, Mapping):
        for _, value in node.entries.values():
            _require_known(value, known, problems)


def _filled(node: Node, given: Map[str, str]) -> Node:
    """The same with each use of a value replaced by it."""
    if isinstance(node, Scalar):
        return Scalar(node.place, _USED.sub(lambda use: given.get(use[1], use[0]), node.text), node.plain)
    if isinstance(node, Sequence):
        return Sequence(node.place, tuple(_filled(item, given) for item in node.items))
    if isinstance(node, Mapping):
        return Mapping(node.place, {key: (name, _filled(value, given)) for key, (name, value) in node.entries.items()})
    return node


def _needing(step: Node, variants: Map[str, list[str]]) -> Node:
    """A step that needs one with a matrix needs all that it became."""
    needs = step.get("needs") if isinstance(step, Mapping) else None
    if not isinstance(step, Mapping) or not isinstance(needs, Sequence):
        return step
    found: list[Node] = []
    for need in needs.items:
        names = variants.get(need.text) if isinstance(need, Scalar) else None
        found += [Scalar(need.place, name) for name in names] if names else [need]
    entries = {**step.entries, "needs": (step.entries["needs"][0], Sequence(needs.place, tuple(found)))}
    return Mapping(step.place, entries)


def _asking(asked: Sequence, variants: Map[str, list[str]]) -> Sequence:
    """A deliverable about a step with a matrix is one about each that it became."""
    found: list[Node] = []
    for one in asked.items:
        step = one.get("step") if isinstance(one, Mapping) else None
        names = variants.get(step.text) if isinstance(step, Scalar) else None
        if not isinstance(one, Mapping) or step is None or not names:
            found.append(one)
            continue
        for name in names:
            entries = {**one.entries, "step": (one.entries["step"][0], Scalar(step.place, name))}
            if isinstance(called := one.get("name"), Scalar):
                entries["name"] = (one.entries["name"][0], Scalar(called.place, f"{called.text} ({name})"))
            found.append(Mapping(one.place, entries))
    return Sequence(asked.place, tuple(found))
