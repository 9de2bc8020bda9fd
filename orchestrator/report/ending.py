"""The last block of a run: what failed, once, with its last line and where it is written; what is kept; what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from orchestrator.engine import accounting, names
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import PhaseRow, StepRow
from orchestrator.report import advice
from orchestrator.report.console import indented, one_line
from orchestrator.report.documents import bill
from orchestrator.report.figures import money, spoken
from orchestrator.report.leftover import kept
from orchestrator.report.verdicts import Verdict
from orchestrator.words.lifecycle import Outcome, StepState
from orchestrator.words.spec import RunSpec

_WIDEST = 119


def block(ledger: Ledger, spec: RunSpec, found: Sequence[Verdict]) -> list[str]:
    """The lines after the table of phases. `found`: the deliverables, their details escaped."""
    run = ledger.runs.get(id=spec.run)
    lines = [f"NO  {one.phase}  {one.name}: {one.detail}" for one in found if one.ok is False]
    if not spec.world.dry_run:  # a rehearsal shows no GPU's speed: that is a count
        lines += [f"?   {one.phase}  {one.name}: {one.detail}" for one in found if one.ok is None and one.answered]
    if run.outcome in (None, Outcome.SUCCEEDED):
        return [*lines, *_pulled(spec), *kept(ledger, spec), f"{spec.run}: {spoken(run.outcome or run.state)}"]
    lines += why(ledger, spec)
    lines += [*_pulled(spec), _spent(ledger, spec)]
    ways = advice.after(ledger, spec)
    width = max(len(way.case) for way in ways)
    for way in ways:
        line = f"{way.case:{width}}  {way.command}"
        lines += [f"{line}  ({way.does})"] if len(line) + len(way.does) < _WIDEST - 4 else [line, f"  ({way.does})"]
    return [*lines, f"{spec.run}: {spoken(run.outcome)}"]


def why(ledger: Ledger, spec: RunSpec) -> list[str]:
    """Why the run did not succeed, phase by phase."""
    return [line for phase in ledger.phases.all(run=spec.run) for line in _phase(ledger, spec, phase)]


def _phase(ledger: Ledger, spec: RunSpec, phase: PhaseRow) -> list[str]:
    """Why a phase did not succeed: its steps that failed, or its own words."""
    failed = ledger.steps.all(run=spec.run, phase=phase.name, state=StepState.FAILED)
    if failed:
        return [line for step in failed for line in _step(spec, step)]
    if not phase.error or phase.outcome == Outcome.SUCCEEDED:
        return []
    said = names.spoken(phase.error, [p.name for p in spec.plan.phases])
    return [f"{spoken(phase.outcome or phase.state).upper()}  {phase.name}  {indented(said)}"]


def _step(spec: RunSpec, step: StepRow) -> list[str]:
    """`FAILED  train/train  exit code 1 (attempt 2 of 2)`, its last line, where it is written, and its log."""
    said = names.spoken(step.detail, [p.name for p in spec.plan.phases]).removeprefix(f"{step.id}: ")
    how, *rest = [line for line in said.splitlines() if line.strip()] or [""]
    attempts = f" (attempt {step.tries} of {max(_attempts(spec, step.id), step.tries)})" if step.tries > 1 else ""
    lines = [f"FAILED  {step.id}  {one_line(how)}{attempts}"]
    if rest:
        lines.append(f"  {one_line(rest[-1])[: _WIDEST - 2]}")
    places = [where(spec, step.id), f"gpuplan logs {spec.run} --step {step.id}"]
    return [*lines, f"  {', '.join(filter(None, places))}"]


def _attempts(spec: RunSpec, step: str) -> int:
    phase, _, name = step.partition("/")
    found = (s.retries + 1 for p in spec.plan.phases if p.name == phase for s in p.steps if s.name == name)
    return next(found, 1)


def where(spec: RunSpec, step: str) -> str:
    """`phases/2-train.yaml:7`: where the plan, as it is now, names the step; "": nobody can say."""
    phase, _, name = step.partition("/")
    folder = Path(spec.plan.folder)
    if not spec.plan.folder or not folder.is_dir():
        return ""
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("phases/*.yaml")]):
        lines = file.read_text("utf-8", "replace").splitlines()
        if not any(re.match(rf"name:\s*[\"']?{re.escape(phase)}[\"']?\s*(#|$)", line) for line in lines):
            continue
        named = re.compile(rf"[-{{,]\s*name:\s*[\"']?{re.escape(name)}[\"']?\s*([,}}#]|$)")
        if number := next((n for n, line in enumerate(lines, 1) if named.search(line)), None):
            return f"{os.path.relpath(file)}:{number}"
    return ""


def _pulled(spec: RunSpec) -> list[str]:
    homes = [
        (Path(spec.pull_root) / p.pull_to).resolve() for p in spec.plan.phases if p.name in spec.asked and p.pull_to
    ]
    return [f"pulled files: {home}" for home in dict.fromkeys(homes) if home.exists()]


def _spent(ledger: Ledger, spec: RunSpec) -> str:
    """`spent $0.02; data is done and safe on volume toy ($0.02 a day)`."""
    spent = f"spent {money(bill(ledger, spec.run, spec.plan).total_usd)}"  # as the table adds it up
    rows = [] if spec.world.throwaway else accounting.living_volumes(ledger, spec)
    there = [f"volume {row.label} ({money(row.price_hour * 24)} a day)" for row in rows]
    steps = [row for row in ledger.steps.all(run=spec.run) if row.state.is_done]
    done = f"{len(steps)} {'step is' if len(steps) == 1 else 'steps are'} done"
    if not there:
        return f"{spent}; {done}" if steps else spent
    return f"{spent}; {done} and safe on {', '.join(there)}" if steps else f"{spent}; kept: {', '.join(there)}"
