"""What the commands show a person: previews, the status, the bill, and the end of a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator.engine import accounting, names
from orchestrator.ledger import Ledger
from orchestrator.report import documents, header, leftover, verdicts, views
from orchestrator.report.console import event_lines, say
from orchestrator.report.figures import elapsed, money, size, spoken
from orchestrator.words.lifecycle import RunState, StepState
from orchestrator.words.outside import LONG, quoted
from orchestrator.words.store_url import read_place

if TYPE_CHECKING:
    from orchestrator.cost import CostReport
    from orchestrator.plan import Preview
    from orchestrator.report.documents import StatusDocument
    from orchestrator.report.rendering import Stands
    from orchestrator.report.snapshot import Snapshot
    from orchestrator.transport.code import Code
    from orchestrator.transport.code_folder import CodeFile
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec

EVENTS = 20  # the newest ones that the status shows
MARKS = {StepState.DONE: "ok", StepState.UP_TO_DATE: "ok", StepState.READY: "ok", StepState.FAILED: "NO"}
VERDICTS = {True: "ok", False: "NO", None: "? "}


def preview(
    found: Preview,
    spec: RunSpec,
    volume: str,
    code: Code,
    passed_over: Sequence[str] = (),
    leaving: str = "",
    *,
    err: bool,
) -> None:
    """What a run is about to do, shown before the question. `volume`: the one that is there; "": none is.

    `passed_over`: providers that would have been taken first, each with the reason. `leaving`: see Proposal.
    """
    from orchestrator.report import rendering  # and rich: a reading command does without

    out = sys.stderr if err else sys.stdout
    where = (
        "a rehearsal on this computer"
        if spec.world.dry_run
        else f"{spec.world.provider}{f' in {spec.place}' if spec.place else ''}"
    )
    rendering.show(f"run {spec.run}: {where}", _plan_words(spec.plan), rendering.preview(found), out=out)
    for reason in passed_over:
        say(f"passed over: {reason}", err=err)
    for line in leaving.splitlines():
        say(line, err=err)
    if found.credit_usd is not None:
        say(f"credit at {spec.world.provider}: {money(found.credit_usd)}", err=err)
    for place in map(read_place, spec.stores):
        if place.endpoint_url:  # not the vendor's own: said wherever a run is agreed to
            say(f"artifacts go to {place.shown}", err=err)
    for line in _sent(spec.plan, code.content, code.hash):
        say(line, err=err)
    if volume:
        ends = "; it is deleted when all of it has succeeded" if spec.ends_volume else ""
        say(f"works on {names.spoken(volume)}, which is there{ends}", err=err)


def _sent(plan: Plan, code: Sequence[CodeFile], digest: str = "") -> list[str]:
    """What goes to every machine, and what runs there before the first step."""
    settings, lines = plan.settings, []
    if code:
        files = f"{len(code):,} file{'s' if len(code) > 1 else ''}, {size(sum(entry.bytes for entry in code))}"
        named = f", hash {digest[:12]}" if digest else ""
        lines.append(f"code sent to every machine: {settings.code} ({files}{named})")
    if settings.requirements:
        lines.append(f"packages for every machine: {', '.join(settings.requirements)}")
    if settings.requirements_gpu:
        more = f"those with a GPU: {', '.join(settings.requirements_gpu)}"
        lines[-1:] = [f"{lines[-1]}; for {more}"] if settings.requirements else [*lines[-1:], f"packages for {more}"]
    if settings.setup:
        lines.append(f"setup of every machine, before its first step: {quoted(settings.setup, LONG)}")
    return lines


def plan(
    loaded: Plan, found: Preview, source: str, code: Sequence[CodeFile], stands: Mapping[str, Stands], *, notes: bool
) -> None:
    """A line a step, the machines with hours and dollars, and how many of the plan's claims do not hold (`notes`: all).

    `stands`: step id -> whether it runs, is done, or has changed.
    """
    from orchestrator.report import rendering  # and rich: a reading command does without

    rendering.show(
        _plan_words(loaded),
        f"prices: {source}",
        rendering.steps(found, stands),
        rendering.preview(found),
        *([rendering.claims(found)] if notes else []),
        out=sys.stdout,
    )
    for line in _sent(loaded, code):
        say(line)
    if found.notes and not notes:
        claims = "1 claim of the plan does" if len(found.notes) == 1 else f"{len(found.notes)} claims of the plan do"
        say(f"{claims} not hold as written: --notes shows all, with what does")


def _plan_words(plan: Plan) -> str:
    """Which plan it is, and which files of settings it was read with."""
    return plan.called + (f"; settings: {', '.join(plan.read)}" if plan.read else "")


def bill(ledger: Ledger, spec: RunSpec, report: CostReport) -> None:
    """The cost of a run, with a line for each step."""
    from orchestrator.report import rendering  # and rich: a reading command does without

    shown = rendering.costs(report, catalogue(ledger, spec), rehearsed=spec.world.dry_run, steps=True)
    rendering.show(shown, out=sys.stdout)


def driver(ledger: Ledger, spec: RunSpec) -> str:
    """Who drives a run that has not ended, and what it costs meanwhile, in words."""
    costs = money(accounting.usd_hour(ledger, spec.run))
    return f"driven by process {ledger.runs.get(id=spec.run).pid} of this computer; {costs}/h now"


def undriven(ledger: Ledger, spec: RunSpec) -> str:
    """What to do about a run that has not ended and that no process drives, and what it costs meanwhile, in words."""
    words = f"nobody drives it: gpuplan resume {spec.run} goes on, gpuplan down {spec.run} ends it; "
    words += f"{money(accounting.usd_hour(ledger, spec.run))}/h now"
    rented = [m for m in ledger.machines.all(run=spec.run) if not m.state.is_final and m.price_hour]
    if not rented:
        return words
    minutes = spec.deadman_minutes or spec.plan.settings.deadman_minutes
    which = "the machine" if len(rented) == 1 else "each machine"
    until = "" if spec.deadman_minutes else ", once its step has ended"
    return f"{words}; {which} ends itself {minutes:g} min after it last heard from here{until}"


def status(ledger: Ledger, spec: RunSpec, found: StatusDocument, *, closely: bool = False) -> None:
    """Where a run is, as text. `found`: documents.status; `closely`: with providers' names and minor events."""
    seen = views.snapshot(ledger, spec, driven=found["driven"])
    now = accounting.moment(ledger.now())
    if seen.state != RunState.DONE:
        say((driver if found["driven"] else undriven)(ledger, spec))
    for line in looked_at(seen, now):
        say(line)
    say(spec.plan.called)
    if found["reason"]:
        say(f"why: {quoted(found['reason'], LONG)}")
    for phase, answered in zip(seen.phases, found["phases"], strict=True):
        took = elapsed(phase.started, phase.ended, now)
        usd = money(phase.usd) if phase.usd else ""
        say("\n" + "  ".join(filter(None, [phase.name, spoken(phase.outcome or phase.state), took, usd])))
        for step in phase.steps:
            using = step.detail if step.state in (StepState.RUNNING, StepState.FAILED, StepState.SKIPPED) else ""
            took = elapsed(step.started, step.ended, now)
            words = [MARKS.get(step.state, ".."), step.name, spoken(step.state), took, step.attempt, using]
            say(f"  {'  '.join(filter(None, words))}")
        for transfer in seen.transfers:
            if transfer.phase == phase.name and transfer.kind != "code":
                say(f"  {header.transfer(transfer, now)}")
        for answer in answered["deliverables"]:
            say(f"  {VERDICTS[answer['ok']]}  {answer['name']}: {quoted(answer['detail'], LONG)}")
    say()
    if closely:
        for machine in found["machines"]:
            say(f"machine {machine['called']} is {machine['name']} ({machine['provider']}, {machine['state'].lower()})")
        for volume in found["volumes"]:
            say(f"volume {volume['label']} is {volume['name']} ({volume['state'].lower()})")
    for line in (leftover.kept(ledger, spec) if seen.state == RunState.DONE else []) + leftover.unfinished(
        ledger, spec
    ):
        say(line)
    for event in ledger.newest_events(spec.run, EVENTS, minor=closely):
        said = "\n".join(
            event_lines(event.text if closely else names.spoken(event.text, [p.name for p in spec.plan.phases]))
        )
        say(f"{datetime.fromtimestamp(event.at).astimezone():%H:%M:%S} {said}")


def looked_at(seen: Snapshot, now: datetime) -> list[str]:
    """The header: the run, what it costs, and each machine that is rented for it."""
    deadman = None if seen.dry_run else seen.deadman_minutes
    machines = [header.machine(m, now, deadman) for m in seen.machines if m.costs]
    return [header.headline(seen, now), header.prices(seen), *machines]


def end(ledger: Ledger, spec: RunSpec, *, err: bool) -> None:
    """The end of a run: what it took and holds, what does not, and what to do, each once."""
    from orchestrator.report import (
        ending,  # it reads plans, which takes its time
        rendering,  # and rich: a reading command does without
    )

    out = sys.stderr if err else sys.stdout
    found = [replace(one, detail=quoted(one.detail, LONG)) for one in verdicts.of_run(ledger, spec)]
    report = documents.bill(ledger, spec.run, spec.plan)
    table = rendering.ending(report, catalogue(ledger, spec), found, spec.asked, rehearsed=spec.world.dry_run)
    rendering.show(table, out=out)
    for line in ending.block(ledger, spec, found):
        say(line, err=err)


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
