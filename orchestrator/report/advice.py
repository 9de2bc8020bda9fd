"""What to do after a run that did not succeed: which commands go on, and about how much each costs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from orchestrator.config import SHIPPED, find_plan, is_shipped
from orchestrator.engine import accounting
from orchestrator.ledger import Ledger
from orchestrator.plan import makespan, resolve
from orchestrator.plan.estimate import makes
from orchestrator.report.figures import money
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.model import Deliverable, Phase
from orchestrator.words.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Advice:
    """One way to go on: when it is meant, what to type, and what that does."""

    case: str
    command: str
    does: str

    def __str__(self) -> str:
        return f"{self.case}  {self.command}  ({self.does})"


def after(ledger: Ledger, spec: RunSpec) -> list[Advice]:
    """Each way to go on. A mended plan is another run: `resume` goes on with the one that was frozen."""
    again, about = command(spec), _about(ledger, spec)
    ways = [
        Advice(f"{name}?", f"{again} --force {step}", "repeats the step that it is about")
        for name, step in _found_wanting(ledger, spec)
    ]
    if spec.world.throwaway:
        ways.append(Advice("mended it?", again, "rehearses it anew; --cloud DIR keeps what is done"))
    else:
        ways.append(Advice("mended it?", again, f"skips what is done{about}"))
    outcome = ledger.runs.get(id=spec.run).outcome
    budget = " --max-usd USD" if outcome == Outcome.OVER_BUDGET else ""
    if outcome == Outcome.NO_MACHINE and not spec.wait_s and not spec.world.ssh_host:
        ways.append(Advice("sold out?", f"{again} --wait 2h", "asks again until there is a machine"))
    ways.append(Advice("as it was?", f"gpuplan resume {spec.run}{budget}", f"goes on with what is missing{about}"))
    if (kept := accounting.living_volumes(ledger, spec)) and not spec.world.throwaway:
        names = ", ".join(row.label for row in kept)
        ways.append(Advice("or no more?", f"gpuplan down {spec.run} --volumes", f"deletes volume {names}"))
    return ways


def command(spec: RunSpec) -> str:
    """The `gpuplan run` that asks for the same phases, of the plan as it is now, in the same world."""
    world, settings = spec.world, spec.plan.settings
    words = ["gpuplan", "run", *(["all"] if spec.whole_plan else spec.wanted), *_plan_flag(spec)]
    words += ["--dry-run"] if world.dry_run else []
    words += ["--cloud", world.cloud] if world.keep_cloud and not world.rehearsal else []
    words += ["--ssh-host", world.ssh_host] if world.ssh_host else []
    words += ["--ssh-key", world.ssh_key] if world.ssh_key else []
    words += ["--spot"] if spec.spot else ["--spot-or-demand"] if spec.spot_or_demand else []
    if not world.dry_run and spec.stores != settings.stores:
        words += [word for url in spec.stores for word in ("--store", url)]
    words += ["--provider", spec.asked_provider] if spec.asked_provider else []
    return shlex.join(words)


def _plan_flag(spec: RunSpec) -> list[str]:
    """--plan, where this folder would mean another plan than the run's."""
    try:
        here = find_plan(Path.cwd())
    except (UsageError, OSError):
        here = None
    if spec.plan.folder:
        return [] if here and here.resolve() == Path(spec.plan.folder) else ["--plan", spec.plan.folder]
    meant = is_shipped(here) if here else not spec.whole_plan
    return [] if meant else ["--plan", SHIPPED]


def _about(ledger: Ledger, spec: RunSpec) -> str:
    """What is left to do is expected to cost, at the prices of the machines that the run had; "": not known."""
    total = Decimal(0)
    for run in resolve(spec.plan, spec.asked):
        name = run.phase.name
        if ledger.phases.get(run=spec.run, name=name).outcome == Outcome.SUCCEEDED:
            continue
        done = {row.id for row in ledger.steps.all(run=spec.run, phase=name) if row.state.is_done}
        prices = [row.price_hour for row in ledger.machines.all(run=spec.run) if row.phase == name]
        if not prices:
            return ""
        seconds = makespan([s for s in run.steps if s.id not in done], spec.plan.settings, {})
        hours = Decimal(seconds + spec.plan.settings.boot_seconds) / 3600
        total += hours * prices[-1] * run.phase.machine.nodes
    return f", about {money(total)}"


def _found_wanting(ledger: Ledger, spec: RunSpec) -> list[tuple[str, str]]:
    """Each deliverable that failed although the step that it is about is done, with that step."""
    found = []
    for name in spec.asked:
        phase = spec.plan.phase(name)
        done = {row.id for row in ledger.steps.all(run=spec.run, phase=name) if row.state.is_done}
        asked = {d.name: d for d in phase.deliverables}
        for row in ledger.deliverables.all(run=spec.run, phase=name, ok=False):
            step = _step_of(phase, asked[row.name])
            if f"{name}/{step}" in done:
                found.append((row.name, f"{name}/{step}"))
    return found


def _step_of(phase: Phase, wanted: Deliverable) -> str | None:
    """The step that a deliverable is about: the one that it names, or the one that makes its files."""
    paths = [path for path in (wanted.file, *wanted.same) if path]
    makers = (step.name for path in reversed(paths) for step in phase.steps if makes(step, path))
    return wanted.step or next(makers, None)
