"""The key of a step's done-record: a hash of everything that its result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath

from orchestrator.plan.globs import matches
from orchestrator.plan.resolve import StepRun, all_steps, ordered
from orchestrator.words.model import Plan, Step

OVERLAY = "overlay"


def done_keys(plan: Plan, payload: Mapping[str, str]) -> dict[str, str]:
    """Return step id -> key. `payload` maps each file's path below the payload's folder to its sha256.

    A change of the payload changes the keys of the steps whose `uses` match it, and of those that need them.
    Needing the overlay is no dependence on all of it for a step that says with `uses` which files count.
    """
    steps = all_steps(plan)
    keys: dict[str, str] = {}
    for step in ordered(steps, steps):
        keys[step] = _key(steps[step], steps, keys, payload)
    return keys


def _key(run: StepRun, steps: Mapping[str, StepRun], keys: Mapping[str, str], payload: Mapping[str, str]) -> str:
    step = run.step
    needs = [need for need in run.needs if not (step.uses and steps[need].step.builtin == OVERLAY)]
    facts = {
        "run": step.run,
        "builtin": step.builtin,
        "text": step.text,
        "cwd": str(PurePosixPath(step.cwd)),
        "env": run.written_env,
        "on": step.on,
        "hub": step.hub.model_dump() if step.hub else None,
        "creates": sorted(step.creates),
        "needs": sorted(keys[need] for need in needs),
        "payload": {path: digest for path, digest in sorted(payload.items()) if _uses(step, path)},
    }
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _uses(step: Step, path: str) -> bool:
    return step.builtin == OVERLAY or any(matches(path, glob) for glob in step.uses)
