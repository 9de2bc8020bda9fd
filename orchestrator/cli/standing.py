"""What of a plan is done, as last seen on its volume, and what about a step has changed since."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.cli.earlier import frozen
from orchestrator.ledger import Ledger
from orchestrator.plan import accepted_keys
from orchestrator.transport import bundle
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Plan, Step
from orchestrator.words.spec import plain

if TYPE_CHECKING:
    from orchestrator.transport.code_folder import CodeFile
    from orchestrator.world.home import Home

RUNS, DONE, CHANGED = "+", "=", "~"
ASPECTS = {  # fields of a step that its result depends on -> what a person calls them
    "run": "command", "builtin": "command", "cwd": "folder", "env": "variables", "on": "nodes", "hub": "download",
    "creates": "what it creates", "text": "text", "uses": "code",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """One step. `mark`: + it runs, = it is done, ~ it was done otherwise: `why`; measured_s None: it never ran."""

    mark: str
    why: str = ""
    measured_s: float | None = None

    def __str__(self) -> str:
        return {RUNS: "run", DONE: "done"}.get(self.mark, f"changed: {self.why}")


def standing(home: Home, ledger: Ledger, plan: Plan, code: Sequence[CodeFile]) -> dict[str, Standing]:
    """Step id -> how it stands, for every step of the plan; nothing is asked but the ledger."""
    labels = {plain(f"{plan.name}-{phase.volume.name}") for phase in plan.phases if phase.volume}
    volumes = [v for v in ledger.volumes.all(cloud="") if v.label in labels and not v.state.is_final]
    records = {r.step: r.key for v in volumes for r in ledger.records.all(volume=v.name)}
    keys = accepted_keys(plan, {entry.path: bundle.sha256_of(entry.file) for entry in code})
    then = _before(home, ledger, plan, {name for name, key in records.items() if key not in keys.get(name, ())})
    took = _measured(ledger)
    found = {}
    for phase in plan.phases:
        for step in phase.steps:
            name = f"{phase.name}/{step.name}"
            if name not in records:
                found[name] = Standing(RUNS, measured_s=took.get(name))
            elif records[name] in keys.get(name, ()):
                found[name] = Standing(DONE, measured_s=took.get(name))
            else:
                why = changed(then[name], step) if name in then else "it is another one"
                found[name] = Standing(CHANGED, why or "its code, or what it needs", took.get(name))
    return found


def changed(then: Step, now: Step) -> str:
    """What about a step is another thing than it was: `command, variables`; "": nothing of its own."""
    names = [word for field, word in ASPECTS.items() if getattr(then, field) != getattr(now, field)]
    return ", ".join(dict.fromkeys(names))


def _before(home: Home, ledger: Ledger, plan: Plan, wanted: Collection[str]) -> Mapping[str, Step]:
    """Step id -> the step as the newest real run of this plan that had it was frozen, for those that are `wanted`."""
    found: dict[str, Step] = {}
    for row in reversed(ledger.runs.all(dry_run=False)):
        if found.keys() >= set(wanted):
            break  # to read a run's plan takes a while, and there may be hundreds
        if (spec := frozen(home, row.id)) and spec.plan.name == plan.name:
            found = {f"{p.name}/{s.name}": s for p in spec.plan.phases for s in p.steps} | found
    return found


def _measured(ledger: Ledger) -> dict[str, float]:
    """Step id -> seconds of its last real run."""
    return {
        step.id: step.ended_at - step.started_at
        for run in ledger.runs.all(dry_run=False)
        for step in ledger.steps.all(run=run.id, state=StepState.DONE)
        if step.started_at and step.ended_at
    }
