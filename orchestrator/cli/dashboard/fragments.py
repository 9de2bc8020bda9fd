"""The parts of the dashboard's pages, from the ledger alone: each is HTML that stands in a page and is sent anew."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from orchestrator.cli.dashboard.actions import Actions
from orchestrator.cli.watching import last_line
from orchestrator.engine import accounting
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import RunRow
from orchestrator.report import documents, header, listing, pages, verdicts, views
from orchestrator.report.figures import elapsed, money, spoken
from orchestrator.report.naming import machine_name, what
from orchestrator.report.page import charts, gather
from orchestrator.report.page.html import environment, mark_of, no_gpus
from orchestrator.words.errors import GpuplanError
from orchestrator.words.lifecycle import Outcome, RunState, StepState
from orchestrator.words.spec import RunSpec
from orchestrator.world.home import Home

FOLDER = Path(__file__).parent
EVENTS = 30
TONES = {
    StepState.DONE: "good",
    StepState.UP_TO_DATE: "good",
    StepState.READY: "good",
    StepState.FAILED: "bad",
    StepState.RUNNING: "accent",
}


class Fragments:
    """Draws them. May be called from any thread."""

    def __init__(self, home: Home, ledger: Ledger, actions: Actions) -> None:
        self._home, self._ledger, self._actions = home, ledger, actions
        self._templates = environment(FOLDER)

    def page(self, name: str, **values: object) -> str:
        """A whole page."""
        return self._templates.get_template(name).render(**values)

    def overview(self) -> dict[str, str]:
        """Id -> HTML: what costs money now, and all runs."""
        rows = listing.runs(self._ledger, self._home.is_driven)
        return {"now": self._draw("now", costs=self._costs()), "runs": self._draw("runs", rows=rows, money=money)}

    def _costs(self) -> list[tuple[bool, str, list[tuple[str, str, str, str, str]]]]:
        """Real money, then what a rehearsal counts: the sum, and a line for each machine and volume."""
        rehearsed = {row.id: row.dry_run for row in self._ledger.runs.all()}
        now = accounting.moment(self._ledger.now())
        found: dict[bool, list[tuple[str, str, str, str, str]]] = {False: [], True: []}
        sums = {False: Decimal(0), True: Decimal(0)}
        for m in self._ledger.machines.all():
            if not m.state.is_final:
                since = accounting.moment(m.sent_at) if m.sent_at else None
                up = elapsed(since, None, now)
                line = (
                    m.run,
                    machine_name(m),
                    what(m),
                    f"{header.WORDS.get(m.state, spoken(m.state))} {up}".strip(),
                    f"{money(m.price_hour)}/h",
                )
                found[rehearsed.get(m.run, False)].append(line)
                sums[rehearsed.get(m.run, False)] += m.price_hour
        for v in self._ledger.volumes.all():
            if not v.state.is_final:
                line = (v.run, f"volume {v.label}", f"{v.size_gb} GB", "", f"{money(v.price_hour * 24)}/day")
                found[rehearsed.get(v.run, False)].append(line)
                sums[rehearsed.get(v.run, False)] += v.price_hour
        return [(kind, f"{money(sums[kind])}/h", found[kind]) for kind in (False, True) if found[kind] or not kind]

    def run(self, spec: RunSpec) -> dict[str, str]:
        """Id -> HTML of one run: its header, what can be done, steps, deliverables, machines, GPUs, events."""
        ledger, home = self._ledger, self._home
        driven = home.is_driven(spec.run)  # before the ledger is read: a run that ends meanwhile is no undriven one
        seen = views.snapshot(ledger, spec, driven=driven)
        row, now = ledger.runs.get(id=spec.run), accounting.moment(ledger.now())
        logs = home.run_folder(spec.run) / "logs"
        said = {
            step.id: last_line(logs / phase.name / f"{step.id.removeprefix(f'{phase.name}/').replace('/', '.')}.log")
            for phase in seen.phases
            for step in phase.steps
            if step.state in (StepState.RUNNING, StepState.READY)
        }
        budget, action = seen.budget_usd, self._actions.last(spec.run)
        share = min(float(100 * seen.cost_usd / budget), 100.0) if budget else None
        return {
            "head": self._draw(
                "head", lines=_header(pages.looked_at(seen, now)), reason=documents.reason(ledger, spec.run),
                share=share, tone=_tone(row, driven=driven), state=header.where(seen),
                undriven=self._undriven(row, spec, driven),
            ),
            "actions": self._draw("actions", run=spec.run, offers=self._offers(row), action=action),
            "steps": self._draw(
                "steps", run=spec.run, phases=seen.phases, now=now, said=said, elapsed=elapsed, spoken=spoken,
                money=money, tones=TONES,
                transfers=[header.transfer(t, now) for t in seen.transfers if t.kind != "code"],
            ),
            "deliverables": self._draw(
                "deliverables", rows=[(mark_of(v), v) for v in verdicts.of_run(ledger, spec)],
            ),
            "machines": self._draw("machines", rows=seen.machines, spoken=spoken, money=money),
            "gpus": self._over_time(spec),
            "events": self._draw("events", rows=[text for _, text in reversed(seen.events)]),
        }  # fmt: skip

    def gpus(self, spec: RunSpec) -> list[tuple[str, charts.Picture]]:
        """What the GPUs of each machine did over time."""
        seen = views.snapshot(self._ledger, spec, driven=True)
        until = seen.ended or accounting.moment(self._ledger.now())
        return charts.over_time(gather.courses(self._ledger, spec), seen.started or until, until)

    def _over_time(self, spec: RunSpec) -> str:
        """Where these pictures are: each is fetched anew when more is known."""
        courses = gather.courses(self._ledger, spec)
        known = zlib.crc32(repr(courses).encode())
        machines = list(dict.fromkeys(course.machine for course in courses))[: charts.MOST_MACHINES]
        why = no_gpus(shown_here=not spec.world.dry_run)
        return self._draw("gpus", run=spec.run, machines=machines, known=known, legend=charts.OVER_TIME, why=why)

    def _undriven(self, row: RunRow, spec: RunSpec, driven: bool) -> str:
        return "" if driven or row.state == RunState.DONE else pages.undriven(self._ledger, spec)

    def _offers(self, row: RunRow) -> list[str]:
        """Which buttons make sense: what goes on can be ended, what nobody drives or did not succeed be resumed."""
        if row.state == RunState.DONE:
            return [] if row.outcome == Outcome.SUCCEEDED else ["resume"]
        return ["down"] if self._home.is_driven(row.id) else ["down", "resume"]

    def question(self, spec: RunSpec, kind: str) -> list[str]:
        """What a button would do, a sentence each: asked before it is done."""
        seen = views.snapshot(self._ledger, spec, driven=self._home.is_driven(spec.run))
        budget = f" of {money(seen.budget_usd)}" if seen.budget_usd is not None else ", without a budget"
        spent = f"It has spent {money(seen.cost_usd)}{budget}."
        if kind == "resume":
            where = "in a rehearsal" if seen.dry_run else "and they cost money"
            return [f"Machines are rented for what is not done yet, {where}.", spent, "What is done is not repeated."]
        rented = [m for m in seen.machines if m.costs]
        names = ", ".join(f"{m.name} ({m.what}, {money(m.price_hour)}/h)" for m in rented)
        ends = f"It ends {names}." if rented else "No machine of it is rented."
        return [ends, "Steps that run are stopped. Volumes are kept, with all that is on them.", spent]

    def trouble(self, error: GpuplanError) -> str:
        """What stands in a page's place when the ledger cannot be read."""
        return self._draw("trouble", error=error.message, remedy=error.remedy)

    def _draw(self, macro: str, **values: object) -> str:
        module = self._templates.get_template("fragments.html").module
        return str(getattr(module, macro)(**values))


def _header(lines: list[str]) -> list[str]:
    """Without the plan, the run and the state, which stand above it."""
    return ["   ".join(lines[0].split("   ")[2:]), *lines[1:]]


def _tone(row: RunRow, *, driven: bool) -> str:
    if row.state != RunState.DONE:
        return "accent" if driven else "bad"
    return "good" if row.outcome == Outcome.SUCCEEDED else "bad"


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The fragments that are other ones now."""
    return {name: text for name, text in new.items() if old.get(name) != text}
