"""The key of a step's done-record: a hash of everything that its result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath

from orchestrator.plan.globs import matches
from orchestrator.plan.resolve import StepRun, all_steps, ordered
from orchestrator.words.model import Former, HubCheckout, Plan, Step

OVERLAY = "overlay"
CODE = "GPUPLAN_CODE"  # what a command calls the code's folder on the machine


def done_keys(plan: Plan, code: Mapping[str, str]) -> dict[str, str]:
    """Return step id -> key. `code` maps each file's path below the code's folder to its sha256.

    A change of the code changes the keys of the steps whose `uses` match it, and of those that need them.
    A step that runs something of $GPUPLAN_CODE and has no `uses` depends on all of it.
    Needing the overlay is no dependence on all of it for a step that says with `uses` which files count.
    """
    steps = all_steps(plan)
    keys: dict[str, str] = {}
    for step in ordered(steps, steps):
        keys[step] = _key(steps[step], steps, keys, code)
    return keys


def accepted_keys(plan: Plan, code: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return step id -> every key whose done-record holds: today's, and those of the plan's former states."""
    found = {step: {key} for step, key in done_keys(plan, code).items()}
    for former in plan.formers:
        then = _as_it_was(plan, former)
        for step, key in done_keys(then, _code_as_it_was(code, former)).items():
            found[step].add(key)
    return {step: frozenset(keys) for step, keys in found.items()}


def _code_as_it_was(code: Mapping[str, str], former: Former) -> dict[str, str]:
    kept = {path: digest for path, digest in code.items() if not path.startswith(former.covers)}
    return kept | former.payload


def _as_it_was(plan: Plan, former: Former) -> Plan:
    phases = []
    for phase in plan.phases:
        steps = [s.model_copy(update=dict(former.steps.get(f"{phase.name}/{s.name}", {}))) for s in phase.steps]
        phases.append(phase.model_copy(update={"steps": tuple(steps)}))
    return plan.model_copy(update={"phases": tuple(phases)})


def _key(run: StepRun, steps: Mapping[str, StepRun], keys: Mapping[str, str], code: Mapping[str, str]) -> str:
    step = run.step
    needs = [need for need in run.needs if not (step.uses and steps[need].step.builtin == OVERLAY)]
    facts: dict[str, object] = {
        "run": step.run,
        "builtin": step.builtin,
        "text": step.text,
        "cwd": str(PurePosixPath(step.cwd)),
        "env": run.env,
        "on": step.on,
        "hub": _hub(step.hub) if step.hub else None,
        "creates": sorted(step.creates),
        "needs": sorted(keys[need] for need in needs),
        "payload": {path: digest for path, digest in sorted(code.items()) if _uses(step, path)},
    }
    if run.inputs:  # keys of before there were any still hold
        facts["inputs"] = sorted([one.source, one.to, *filter(None, [one.sha256])] for one in run.inputs)
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _hub(checkout: HubCheckout) -> dict[str, object]:
    """What it says, without the patterns where there are none: keys of before there were any still hold."""
    said = checkout.model_dump()
    return {key: value for key, value in said.items() if value or key not in ("include", "exclude")}


def _uses(step: Step, path: str) -> bool:
    all_of_it = step.builtin == OVERLAY or (CODE in step.run and not step.uses)
    return all_of_it or any(matches(path, glob) for glob in step.uses)
