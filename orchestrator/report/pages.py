"""What the commands show a person: previews, the status, the bill, and the end of a run."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.ledger import Ledger, Row, tables
from orchestrator.report import documents
from orchestrator.report import tables as drawn
from orchestrator.report.console import escape, one_line
from orchestrator.report.words import duration, money, spoken
from orchestrator.words.lifecycle import Outcome, RunState, StepState

if TYPE_CHECKING:
    from orchestrator.cost import CostReport
    from orchestrator.plan.preview import Preview
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec

EVENTS = 20  # the newest ones that the status shows
MARKS = {StepState.DONE: "ok", StepState.UP_TO_DATE: "ok", StepState.READY: "ok", StepState.FAILED: "NO"}


def preview(found: Preview, spec: RunSpec, volume: str, *, err: bool) -> None:
    """What a run is about to do, shown before the question. `volume`: the one that is there; "": none is."""
    out = sys.stderr if err else sys.stdout
    where = (
        "a rehearsal on this computer"
        if spec.world.dry_run
        else f"{spec.world.provider}{f' in {spec.place}' if spec.place else ''}"
    )
    drawn.show(f"run {spec.run}: {where}", f"plan {_plan_words(spec.plan)}", drawn.preview(found), out=out)
    cap = f"budget of the run: {money(found.budget_usd)}" if found.budget_usd else "no budget for the run"
    out.write(cap + "\n")
    if volume:
        ends = "; it is deleted when all of it has succeeded" if spec.ends_volume else ""
        out.write(f"works on {volume}, which is there{ends}\n")


def plan(loaded: Plan, found: Preview, source: str) -> None:
    """The plan against reality: three columns of hours and dollars, and every claim that does not hold."""
    drawn.show(
        f"plan {_plan_words(loaded)}", f"prices: {source}", drawn.preview(found), drawn.claims(found), out=sys.stdout
    )


def _plan_words(plan: Plan) -> str:
    """Which plan it is, and which files of settings it was read with."""
    where = f" in {plan.folder}" if plan.folder else ", which comes with gpuplan"
    return f"{plan.name}{where}" + (f"; settings: {', '.join(plan.read)}" if plan.read else "")


def bill(ledger: Ledger, spec: RunSpec, report: CostReport) -> None:
    """The cost of a run, with a line for each step."""
    shown = drawn.costs(report, catalogue(ledger, spec), rehearsed=spec.world.dry_run, steps=True)
    drawn.show(shown, out=sys.stdout)


def status(ledger: Ledger, spec: RunSpec) -> None:
    """Where a run is, as text."""
    found = documents.status(ledger, spec.run)
    say = sys.stdout.write
    say("  ".join(filter(None, ["run", found["run"], found["state"], found["outcome"]])) + "\n")
    for phase in found["phases"]:
        using = {
            s["id"].removeprefix(f"{phase['phase']}/"): s["detail"] for s in _running(ledger, spec, phase["phase"])
        }
        say(f"\n{phase['phase']}  {spoken(phase['state'])}\n")
        for step in phase["steps"]:
            mark = MARKS.get(StepState(step["state"]), "..")
            took = duration(step["seconds"]) if step["seconds"] else ""
            say(
                f"  {mark}  {step['name']}  {spoken(step['state'])}  {took}  {using.get(step['name'], '')}".rstrip()
                + "\n"
            )
        for answer in phase["deliverables"]:
            say(f"  {'ok' if answer['ok'] else 'NO'}  {answer['name']}: {one_line(answer['detail'])}\n")
    say("\n")
    for machine in found["machines"]:
        say(f"machine {machine['name']}  {machine['provider']}  {machine['state'].lower()}\n")
    for volume in found["volumes"]:
        say(f"volume {volume['name']}  {volume['state'].lower()}\n")
    if found["state"] == RunState.DONE:
        for line in kept(ledger, spec):
            say(line + "\n")
    for line in unfinished(ledger, spec):
        say(line + "\n")
    say("\n")
    for event in ledger.newest_events(spec.run, EVENTS):
        when = datetime.fromtimestamp(event["at"]).astimezone()
        say(f"{when:%H:%M:%S} {one_line(str(event['text']))}\n")


def _running(ledger: Ledger, spec: RunSpec, phase: str) -> list[Row]:
    return ledger.all(tables.steps, run=spec.run, phase=phase, state=str(StepState.RUNNING))


def end(ledger: Ledger, spec: RunSpec, folder: Path, *, err: bool) -> None:
    """The end of a run: deliverables, cost, where the files lie, what is kept, and why it failed if it did."""
    out = sys.stderr if err else sys.stdout
    rows = [
        drawn.DeliverableRow(str(d["phase"]), str(d["name"]), bool(d["ok"]), one_line(str(d["detail"])))
        for phase in ledger.all(tables.phases, run=spec.run)
        for d in ledger.all(tables.deliverables, run=spec.run, phase=phase["name"])
    ]
    if rows:
        drawn.show(drawn.deliverables(rows), out=out)
    report = documents.bill(ledger, spec.run, spec.plan)
    drawn.show(drawn.costs(report, catalogue(ledger, spec), rehearsed=spec.world.dry_run), out=out)
    for line in _last_words(ledger, spec, folder):
        out.write(line + "\n")


def _last_words(ledger: Ledger, spec: RunSpec, folder: Path) -> list[str]:
    lines = []
    for phase in spec.plan.phases:
        if phase.name in spec.asked and phase.pull_to:
            home = (Path(spec.pull_root) / phase.pull_to).resolve()
            if home.exists():
                lines.append(f"pulled files: {home}")
    lines += kept(ledger, spec)
    run = ledger.one(tables.runs, id=spec.run)
    ended = ledger.all(tables.phases, run=spec.run)
    lines += [f"\n{p['name']} {spoken(p['outcome'])}: {escape(str(p['error']))}" for p in ended if p["error"]]
    if run["outcome"] not in (None, str(Outcome.SUCCEEDED)):
        lines += [f"\nlogs: {folder / 'logs'}", f"gpuplan resume {spec.run} goes on with what is missing"]
    lines.append(f"\n{spec.run}: {spoken(run['outcome'] or run['state'])}")
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
    others = [r for r in ledger.all(tables.runs) if r["state"] != RunState.DONE and r["id"] != spec.run]
    return [
        f"{r['id']} has not ended either: gpuplan status {r['id']}, gpuplan down {r['id']}"
        for r in others
        if spec.world.dry_run or not r["dry_run"]
    ]


def catalogue(ledger: Ledger, spec: RunSpec) -> dict[str, Decimal]:
    """Phase -> the plan's hours at the list prices of the machines that it really had."""
    found = {}
    for phase in spec.plan.phases:
        rows = [r for r in ledger.all(tables.machines, run=spec.run, phase=phase.name) if r["provider_id"]]
        held = {c["machine"] for c in ledger.all(tables.charges, run=spec.run, phase=phase.name)}
        rows = rows or [r for r in ledger.all(tables.machines, run=spec.run) if r["name"] in held]
        if phase.planned and rows:
            per_node = {r["node"]: Decimal(r["price_hour"]) for r in rows}
            found[phase.name] = phase.planned.hours * sum(per_node.values())
    return found
