"""What the commands show a person: previews, the status, the bill, and the end of a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.ledger import Ledger
from orchestrator.report import advice, documents, rendering, verdicts
from orchestrator.report.console import event_lines, indented, say
from orchestrator.report.figures import duration, money, spoken
from orchestrator.words.lifecycle import Outcome, RunState, StepState
from orchestrator.words.outside import LONG, quoted

if TYPE_CHECKING:
    from orchestrator.cost import CostReport
    from orchestrator.plan import Preview
    from orchestrator.report.documents import StatusDocument
    from orchestrator.transport.code import Code
    from orchestrator.transport.code_folder import CodeFile
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec

EVENTS = 20  # the newest ones that the status shows
MARKS = {StepState.DONE: "ok", StepState.UP_TO_DATE: "ok", StepState.READY: "ok", StepState.FAILED: "NO"}
VERDICTS = {True: "ok", False: "NO", None: "? "}


def preview(
    found: Preview, spec: RunSpec, volume: str, code: Code, passed_over: Sequence[str] = (), *, err: bool
) -> None:
    """What a run is about to do, shown before the question. `volume`: the one that is there; "": none is.

    `passed_over`: providers that would have been taken first, each with the reason.
    """
    out = sys.stderr if err else sys.stdout
    where = (
        "a rehearsal on this computer"
        if spec.world.dry_run
        else f"{spec.world.provider}{f' in {spec.place}' if spec.place else ''}"
    )
    rendering.show(f"run {spec.run}: {where}", _plan_words(spec.plan), rendering.preview(found), out=out)
    for reason in passed_over:
        say(f"passed over: {reason}", err=err)
    cap = f"budget of the run: {money(found.budget_usd)}" if found.budget_usd else "no budget for the run"
    say(cap, err=err)
    if found.credit_usd is not None:
        say(f"credit at {spec.world.provider}: {money(found.credit_usd)}", err=err)
    for line in _sent(spec.plan, code.content, code.hash):
        say(line, err=err)
    if volume:
        ends = "; it is deleted when all of it has succeeded" if spec.ends_volume else ""
        say(f"works on {volume}, which is there{ends}", err=err)


def _sent(plan: Plan, code: Sequence[CodeFile], digest: str = "") -> list[str]:
    """What goes to every machine, and what runs there before the first step."""
    settings, lines = plan.settings, []
    if code:
        size = f"{len(code):,} files, {sum(entry.bytes for entry in code) / 1e6:,.2f} MB"
        named = f", hash {digest[:12]}" if digest else ""
        lines.append(f"code sent to every machine: {settings.code} ({size}{named})")
    if settings.requirements:
        lines.append(f"packages for every machine: {', '.join(settings.requirements)}")
    if settings.requirements_gpu:
        lines.append(f"packages for those with a GPU: {', '.join(settings.requirements_gpu)}")
    if settings.setup:
        lines.append(f"setup of every machine, before its first step: {quoted(settings.setup, LONG)}")
    return lines


def plan(loaded: Plan, found: Preview, source: str, code: Sequence[CodeFile]) -> None:
    """The plan against reality: three columns of hours and dollars, and every claim that does not hold."""
    rendering.show(
        _plan_words(loaded),
        f"prices: {source}",
        rendering.preview(found),
        rendering.claims(found),
        out=sys.stdout,
    )
    for line in _sent(loaded, code):
        say(line)


def _plan_words(plan: Plan) -> str:
    """Which plan it is, and which files of settings it was read with."""
    return plan.called + (f"; settings: {', '.join(plan.read)}" if plan.read else "")


def bill(ledger: Ledger, spec: RunSpec, report: CostReport) -> None:
    """The cost of a run, with a line for each step."""
    shown = rendering.costs(report, catalogue(ledger, spec), rehearsed=spec.world.dry_run, steps=True)
    rendering.show(shown, out=sys.stdout)


def driver(ledger: Ledger, spec: RunSpec) -> str:
    """Who drives a run that has not ended, and what it costs meanwhile, in words."""
    costs = money(documents.usd_hour(ledger, spec.run))
    return f"driven by process {ledger.runs.get(id=spec.run).pid} of this computer; {costs}/h now"


def undriven(ledger: Ledger, spec: RunSpec) -> str:
    """What to do about a run that has not ended and that no process drives, and what it costs meanwhile, in words."""
    words = f"nobody drives it: gpuplan resume {spec.run} goes on, gpuplan down {spec.run} ends it; "
    words += f"{money(documents.usd_hour(ledger, spec.run))}/h now"
    rented = [m for m in ledger.machines.all(run=spec.run) if not m.state.is_final and m.price_hour]
    if not rented:
        return words
    minutes = spec.deadman_minutes or spec.plan.settings.deadman_minutes
    which = "the machine" if len(rented) == 1 else "each machine"
    until = "" if spec.deadman_minutes else ", once its step has ended"
    return f"{words}; {which} ends itself {minutes:g} min after it last heard from here{until}"


def status(ledger: Ledger, spec: RunSpec, found: StatusDocument) -> None:
    """Where a run is, as text. `found`: documents.status."""
    if found["state"] != RunState.DONE:
        say((driver if found["driven"] else undriven)(ledger, spec))
    say("  ".join(filter(None, ["run", found["run"], found["state"], found["outcome"]])))
    say(spec.plan.called)
    uses = {(s.phase, documents.shown(s)): s.detail for s in ledger.steps.all(run=spec.run, state=StepState.RUNNING)}
    for phase in found["phases"]:
        say(f"\n{phase['phase']}  {spoken(phase['state'])}")
        for step in phase["steps"]:
            mark = MARKS.get(StepState(step["state"]), "..")
            took = duration(step["seconds"]) if step["seconds"] else ""
            using = uses.get((phase["phase"], step["name"]), "")
            say(f"  {mark}  {step['name']}  {spoken(step['state'])}  {took}  {using}".rstrip())
        for answer in phase["deliverables"]:
            say(f"  {VERDICTS[answer['ok']]}  {answer['name']}: {quoted(answer['detail'], LONG)}")
    say()
    for machine in found["machines"]:
        say(f"machine {machine['name']}  {machine['provider']}  {machine['state'].lower()}")
    for volume in found["volumes"]:
        say(f"volume {volume['name']}  {volume['state'].lower()}")
    lines = kept(ledger, spec) if found["state"] == RunState.DONE else []
    for line in lines + unfinished(ledger, spec):
        say(line)
    say()
    for event in ledger.newest_events(spec.run, EVENTS):
        said = "\n".join(event_lines(event.text))
        say(f"{datetime.fromtimestamp(event.at).astimezone():%H:%M:%S} {said}")


def end(ledger: Ledger, spec: RunSpec, folder: Path, *, err: bool) -> None:
    """The end of a run: deliverables, cost, where the files lie, what is kept, and why it failed if it did."""
    out = sys.stderr if err else sys.stdout
    if found := [replace(one, detail=quoted(one.detail, LONG)) for one in verdicts.of_run(ledger, spec)]:
        rendering.show(rendering.deliverables(found, spec.asked), out=out)
    report = documents.bill(ledger, spec.run, spec.plan)
    rendering.show(rendering.costs(report, catalogue(ledger, spec), rehearsed=spec.world.dry_run), out=out)
    for line in _last_words(ledger, spec, folder):
        say(line, err=err)


def _last_words(ledger: Ledger, spec: RunSpec, folder: Path) -> list[str]:
    lines = []
    for phase in spec.plan.phases:
        if phase.name in spec.asked and phase.pull_to:
            home = (Path(spec.pull_root) / phase.pull_to).resolve()
            if home.exists():
                lines.append(f"pulled files: {home}")
    lines += kept(ledger, spec)
    run = ledger.runs.get(id=spec.run)
    for phase_row in ledger.phases.all(run=spec.run):
        if phase_row.error:
            ended = phase_row.outcome or phase_row.state
            lines.append(f"\n{phase_row.name} {spoken(ended)}: {indented(phase_row.error)}")
    if run.outcome not in (None, Outcome.SUCCEEDED):
        lines += [f"\nlogs: {folder / 'logs'}", *advice.after(ledger, spec)]
    lines.append(f"\n{spec.run}: {spoken(run.outcome or run.state)}")
    return lines


def kept(ledger: Ledger, spec: RunSpec) -> list[str]:
    """A line for each volume of the plan that goes on costing money, with what ends it."""
    lines = []
    for volume in documents.kept(ledger, spec):
        due = datetime.fromisoformat(volume["due"]) if volume["due"] else None
        late = f", was to be gone by {due.astimezone():%Y-%m-%d}" if due and due < datetime.now(UTC) else ""
        lines.append(
            f"kept: volume {volume['name']}, {money(Decimal(volume['usd_a_day']))} a day{late} "
            f"(gpuplan down {spec.run} --volumes deletes it)"
        )
    return lines


def unfinished(ledger: Ledger, spec: RunSpec) -> list[str]:
    """A line for each other run that has not ended; beside a real run rehearsals do not matter."""
    others = [r for r in ledger.runs.all() if r.state != RunState.DONE and r.id != spec.run]
    return [
        f"{r.id} has not ended either: gpuplan status {r.id}, gpuplan down {r.id}"
        for r in others
        if spec.world.dry_run or not r.dry_run
    ]


def catalogue(ledger: Ledger, spec: RunSpec) -> dict[str, Decimal]:
    """Phase -> the plan's hours at the list prices of the machines that it really had."""
    found = {}
    for phase in spec.plan.phases:
        rows = [r for r in ledger.machines.all(run=spec.run, phase=phase.name) if r.provider_id]
        held = {c.machine for c in ledger.charges.all(run=spec.run, phase=phase.name)}
        rows = rows or [r for r in ledger.machines.all(run=spec.run) if r.name in held]
        if phase.planned and rows:
            per_node = {r.node: r.price_hour for r in rows}
            found[phase.name] = phase.planned.hours * sum(per_node.values())
    return found
