"""What the liars' files say, as values, and the runs in which they are judged."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from orchestrator.plan.globs import matches
from orchestrator.testing.machine import Script

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Liar:
    """One way not to do the work. `caught`: phase -> the deliverables that must not hold."""

    name: str
    lie: str
    caught: dict[str, list[str]]
    steps: dict[str, dict[str, Any]]  # on the bench: step id or glob -> what of its script is another
    changes: list[dict[str, str]]  # in a rehearsal: file, old, new
    at_once: bool = False  # in a rehearsal: it lies beside the others of these in one run too

    @property
    def run(self) -> tuple[str, ...]:
        """The phases that the run asks for."""
        return tuple(self.caught)

    def scripts(self, honest: dict[str, Script]) -> dict[str, Script]:
        """What the steps do on the bench in place of the honest ones."""
        found = dict(honest)
        for glob, change in self.steps.items():
            for step in [s for s in honest if matches(s, glob)] or [glob]:
                found[step] = _changed(honest.get(step, Script()), change)
        return found


def _changed(script: Script, change: dict[str, Any]) -> Script:
    said = {name: change[name] for name in change if name != "metrics"}
    metrics = dict(script.metrics)
    for name, figure in change.get("metrics", {}).items():
        if figure is None:
            metrics.pop(name, None)
        else:
            metrics[name] = {"measured_on": "there"} | _as_line(metrics.get(name)) | figure
    if "cards" in said:
        said["cards"] = tuple(said["cards"])
    assert set(said) <= {field.name for field in fields(Script)}, said
    return replace(script, metrics=metrics, **said)


def _as_line(figure: Any) -> dict[str, Any]:
    return dict(figure) if isinstance(figure, dict) else {}


def load(file: str) -> list[Liar]:
    """The liars of one file."""
    return [
        Liar(
            name=said["name"], lie=said["lie"], caught=said["caught"], steps=said.get("steps", {}),
            changes=said.get("changes", []), at_once=said.get("at_once", False),
        )
        for said in yaml.safe_load((HERE / file).read_text())
    ]  # fmt: skip


def together(name: str, liars: list[Liar]) -> Liar:
    """One run in which all of them lie; none hides what catches another."""
    caught: dict[str, list[str]] = {}
    for liar in liars:
        for phase, names in liar.caught.items():
            caught.setdefault(phase, []).extend(names)
    return Liar(name, "; ".join(one.lie for one in liars), caught, {}, [c for one in liars for c in one.changes])


BENCH, REHEARSED = load("on_the_bench.yaml"), load("rehearsed.yaml")
AT_ONCE = together("three-at-once", [liar for liar in REHEARSED if liar.at_once])


def uncaught(liar: Liar, honest: dict[tuple[str, str], Any], found: dict[tuple[str, str], Any]) -> list[str]:
    """Why the liar is not caught: a deliverable that the honest payload does not get either, or that the liar gets."""
    wrong = []
    for key in [(phase, name) for phase, names in liar.caught.items() for name in names]:
        if honest.get(key) is not True:
            wrong.append(f"{key}: the honest payload gets {honest.get(key)}")
        if found.get(key) is True:
            wrong.append(f"{key}: the liar gets it too")
    return wrong
