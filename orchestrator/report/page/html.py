"""The account of a run as one HTML file that needs nothing else: no script, no address, light and dark, for print too.

Whatever a template writes goes through the project's one escape, and then through HTML's: there is no way around it
but `drawn`, for the pictures, whose texts have been through both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.report import verdicts
from orchestrator.report.figures import duration, elapsed, hours, money, plain, size, spoken
from orchestrator.report.page import charts
from orchestrator.report.page.account import Account
from orchestrator.report.page.text import shown
from orchestrator.words.lifecycle import Outcome, PhaseState, RunState, StepState

FOLDER = Path(__file__).parent
NUMBERS = frozenset({"an hour", "took", "cost", "plan's hours", "plan's dollars", "memory", "of it", "busy", "value",
                     "size"})  # fmt: skip
STANDS_IN = "A CPU stood in for the GPUs here"


@dataclass(frozen=True, slots=True)
class Mark:
    """A verdict or a state in a table: a word, and which colour it has besides."""

    word: str
    kind: str


def page(account: Account) -> str:
    """The whole file."""
    template = environment(FOLDER).get_template("report.html")
    begun = account.stretches or any(s.started for p in account.seen.phases for s in p.steps)
    seen = account.seen
    return template.render(
        run=account,
        css=Markup(style()),  # noqa: S704  files of ours
        numbers=NUMBERS,
        codes={"sha256"},
        tone=_tone(account),
        began=_time(seen.started, whole=True),
        ended=_time(seen.ended, whole=True),
        as_of=_time(account.until, whole=True),
        facts=_facts(account),
        timeline=charts.timeline(account) if begun else None,
        cost=charts.cost(account) if account.curve else None,
        gpus=charts.gpus(account.uses) if account.uses else None,
        over_time=charts.over_time(account.courses, seen.started or account.until, account.until),
        not_drawn=max(len({course.machine for course in account.courses}) - charts.MOST_MACHINES, 0),
        no_gpus=no_gpus(shown_here=account.gpus_shown),
        caveat=""
        if account.gpus_shown
        else f"{STANDS_IN}, and models of a few megabytes for the real ones: "
        "none of these figures says anything about a GPU.",
        machines=_machines(account),
        bill=_bill(account),
        uses=_uses(account),
        summary=verdicts.summary(account.verdicts),
        deliverables=_deliverables(account),
        benchmarks=[(b.what, b.plan, b.fact, b.measured or "not measured", b.where) for b in account.benchmarks],
        measures=[(m.step + _node(m.node), m.name, plain(m.value), m.measured_on) for m in account.measures],
        artifacts=_artifacts(account),
        phases=_phases(account),
        events=[(f"{at:%H:%M:%S}", text) for at, text in account.events],
    )


def style() -> str:
    """How a report looks, and what else is drawn like one."""
    return "".join((FOLDER / name).read_text("utf-8") for name in ("colours.css", "report.css"))


def no_gpus(*, shown_here: bool) -> str:
    """Why nothing is drawn of a GPU."""
    if shown_here:
        return "Nothing was sampled of a GPU."
    return f"Not shown here. {STANDS_IN}: what was sampled is no card's."


def environment(folder: Path) -> Environment:
    """Templates that escape everything, as the terminal's views do, and as HTML."""
    made = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, finalize=_escaped, trim_blocks=True
    )
    made.filters["drawn"] = Markup
    made.tests["verdict"] = lambda cell: isinstance(cell, Mark)
    return made


def _escaped(value: object) -> object:
    return value if isinstance(value, Markup) else shown(value)


def _tone(account: Account) -> str:
    if account.seen.state != RunState.DONE:
        return "accent" if account.seen.driven else "bad"
    return "good" if account.outcome == spoken(Outcome.SUCCEEDED) else "bad"


def _facts(account: Account) -> Iterable[tuple[str, str, str]]:
    """The first look: what it took, what it cost, what holds."""
    seen = account.seen
    yield "took", elapsed(seen.started, seen.ended, account.until) or "-", _plans_hours(account)
    paid = " (rehearsed)" if seen.dry_run else ""
    cap = f"of {money(seen.budget_usd)}" if seen.budget_usd is not None else "no budget"
    yield f"cost{paid}", money(seen.cost_usd), cap
    if account.planned_usd is not None:
        confirmed = f"estimated {money(account.confirmed_usd)}" if account.confirmed_usd is not None else ""
        yield "the plan said", money(account.planned_usd), confirmed
    held = sum(v.ok is True for v in account.verdicts)
    if account.verdicts:
        yield "deliverables", f"{held} of {len(account.verdicts)} hold", _others(account)
    done = [s for p in seen.phases for s in p.steps]
    yield "steps", f"{sum(s.state.serves for s in done)} of {len(done)} done", f"{len(seen.machines)} machines"
    if seen.state != RunState.DONE:
        yield "costs now", f"{money(seen.machines_hour + seen.volume_hour)}/h", ""


def _plans_hours(account: Account) -> str:
    planned = [p.planned_hours for p in account.bill.phases if p.planned_hours is not None]
    return f"the plan: {hours(sum(planned, Decimal(0)))}" if planned else ""


def _others(account: Account) -> str:
    words = verdicts.summary(account.verdicts).split(", ")[1:]
    return ", ".join(words)


def _machines(account: Account) -> list[tuple[str, ...]]:
    paid: dict[str, list[str]] = {}
    for one in account.stretches:
        took = duration(((one.until or account.until) - one.since).total_seconds())
        paid.setdefault(one.machine, []).append(f"{_time(one.since)} for {took}")
    return [
        (m.name, m.what, m.provider, money(m.price_hour), ", ".join(paid.get(m.name, ["-"])), _ended(m.state, m.detail))
        for m in account.seen.machines
    ]


def _ended(state: str, why: str) -> str:
    return f"{spoken(state)}: {why}" if why else spoken(state)


def _bill(account: Account) -> list[tuple[str, ...]]:
    bill = account.bill
    rows = [
        (p.phase, hours_of(p.hours), money(p.usd), hours(p.planned_hours), money(p.planned_usd)) for p in bill.phases
    ]
    if bill.volumes_usd:
        rows.append(("volumes", "", money(bill.volumes_usd), "", ""))
    took = hours_of(sum((p.hours for p in bill.phases), Decimal(0)))
    planned = [p.planned_hours for p in bill.phases if p.planned_hours is not None]
    total = hours(sum(planned, Decimal(0))) if planned else "-"
    dollars = money(account.planned_usd)
    return [*rows, ("total", took, money(bill.total_usd), total, dollars)]


def hours_of(value: Decimal) -> str:
    """Hours as a person says them: `1m 12s`, `2h 10m`; `-` for none."""
    return duration(value * 3600) if value else "-"


def _uses(account: Account) -> list[tuple[str, ...]]:
    return [
        (
            one.step + _node(one.node),
            one.cards or "none",
            "-" if one.memory_mib is None else f"{one.memory_mib / 1024:,.1f} GiB",
            "-" if one.memory_percent is None else f"{one.memory_percent:.0f} %",
            "-" if one.busy_percent is None else f"{one.busy_percent:.0f} %",
        )
        for one in account.uses
    ]


def _node(number: int) -> str:
    return f", node {number}" if number else ""


def mark_of(verdict: verdicts.Verdict) -> Mark:
    """How a deliverable stands, in words: `ok`, `failed`, `not shown here`, `not asked`."""
    if verdict.ok is None:
        return Mark("not shown here", "warn") if verdict.answered else Mark("not asked", "muted")
    return Mark("ok", "good") if verdict.ok else Mark("failed", "bad")


def _deliverables(account: Account) -> list[tuple[str, list[tuple[Mark, str, str]]]]:
    found: dict[str, list[tuple[Mark, str, str]]] = {}
    for one in account.verdicts:
        found.setdefault(one.phase, []).append((mark_of(one), one.name, one.detail))
    return list(found.items())


def _artifacts(account: Account) -> list[tuple[str, ...]]:
    return [
        (one.called, size(one.bytes), one.sha256 or "not known yet", places(one.stores, one.missing))
        for one in account.saved
    ]


def places(stores: tuple[str, ...], missing: tuple[str, ...]) -> str:
    """`s3://b/x`, `gs://b/x (not verified)`: where a file is, or was to be."""
    return ", ".join([*stores, *(f"{store} (not verified)" for store in missing)])


_STATES = {StepState.FAILED: "bad", StepState.RUNNING: "accent", StepState.READY: "good"}


def _phases(account: Account) -> list[tuple[str, str, list[tuple[object, ...]]]]:
    found = []
    for phase in account.seen.phases:
        took = elapsed(phase.started, phase.ended, account.until)
        state = phase.outcome if phase.state == PhaseState.DONE and phase.outcome else phase.state
        usd = money(phase.usd) if phase.usd else ""
        rows: list[tuple[object, ...]] = [
            (
                step.name,
                Mark(spoken(step.state), _STATES.get(step.state, "good" if step.state.is_done else "muted")),
                _time(step.started),
                elapsed(step.started, step.ended, account.until),
                step.attempt,
                step.detail,
            )
            for step in phase.steps
        ]
        found.append((phase.name, ", ".join(filter(None, [spoken(state), took, usd])), rows))
    return found


def _time(moment: datetime | None, *, whole: bool = False) -> str:
    """`13:50:20`, or with its day; "" for none."""
    return f"{moment:%Y-%m-%d %H:%M UTC}" if moment and whole else f"{moment:%H:%M:%S}" if moment else ""
