"""Tables for people: deliverables, cost, and the preview of a run. They take frozen values and return renderables.

At 60 columns every figure is still whole: names and sentences are folded instead.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, TextIO

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from orchestrator.report.figures import duration, hours, money
from orchestrator.report.verdicts import Verdict, summary
from orchestrator.words.outside import escape

if TYPE_CHECKING:
    from orchestrator.cost import CostReport
    from orchestrator.plan import PhasePreview, Preview
    from orchestrator.words.provider import Offer


MACHINE, FIGURES = 1, 4  # of the columns of phases: the machines', and the first that is left out where none says it
LEAST_WORDS, LEAST_ANSWERS = 20, 14  # characters, of a column of machines or of answers that is one
NOTHING = "-"
PLAIN_WIDTH = 119  # where no terminal says how wide it is


class StrictConsole(Console):
    """A console that writes no text but escaped, and that says when nobody reads any more; rich's own ends then."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See rich: what commands the terminal is the console's own and never part of a text."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(escape(part.text), part.style)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError: what it means for the command is decided in one place."""
        raise BrokenPipeError


def show(*parts: RenderableType, out: TextIO, width: int | None = None) -> None:
    """Print renderables to `out`; width None: the terminal's, or 119 where there is none. No colours there either."""
    if width is None and not out.isatty() and "COLUMNS" not in os.environ:
        width = PLAIN_WIDTH
    console = StrictConsole(file=out, width=width, highlight=False, markup=False, emoji=False)
    console.print(*parts, sep="\n")


def ending(
    report: CostReport,
    catalogue_usd: Mapping[str, Decimal],
    found: Sequence[Verdict],
    asked: Container[str],
    *,
    rehearsed: bool,
) -> RenderableType:
    """What each phase took and cost, beside the plan's hours and dollars and those hours at list prices, and holds."""
    title = f"{report.run}{' (rehearsed: nothing was paid)' if rehearsed else ''}"
    answers: dict[str, Text] = {}
    for phase in report.phases:
        mine = [one for one in found if one.phase == phase.phase and one.phase in asked]
        answers[phase.phase] = _verdict(mine) if mine else Text(NOTHING)
    answers["total"] = _verdict(found) if found else Text(NOTHING)

    def table(*, beside: bool) -> Table:
        made = new_table(title)
        made.add_column("phase", overflow="fold", min_width=8)
        for name in ("took", "cost", "plan's\nhours", "plan's\ndollars", "at list\nprices"):
            made.add_column(name, justify="right", no_wrap=True)
        if beside:
            made.add_column("deliverables", overflow="fold", min_width=LEAST_ANSWERS)
        for phase in report.phases:
            planned = (hours(phase.planned_hours), money(phase.planned_usd), money(catalogue_usd.get(phase.phase)))
            took = duration(phase.hours * 3600) if phase.hours else NOTHING
            made.add_row(phase.phase, took, money(phase.usd), *planned, *([answers[phase.phase]] if beside else ()))
        if report.volumes_usd:
            made.add_row("volumes", "", money(report.volumes_usd))
        made.add_row("total", *_sums(report, catalogue_usd), *([answers["total"]] if beside else ()), style="bold")
        return made

    below = [Text.assemble(f"{name}: ", said) for name, said in answers.items() if str(said) != NOTHING]
    whole = _Beside(table(beside=True), table(beside=False), below, LEAST_ANSWERS)
    if report.settled or rehearsed or not report.total_usd:  # a machine of one's own has no bill
        return whole
    return Group(whole, Text("not settled: the bill may still change", style="dim"))


def _verdict(found: Sequence[Verdict]) -> Text:
    good = all(one.ok or (one.ok is None and one.answered) for one in found)
    return Text(summary(found), style="green" if good else "red")


def costs(
    report: CostReport, catalogue_usd: Mapping[str, Decimal], *, rehearsed: bool, steps: bool = False
) -> RenderableType:
    """What a run cost, beside the plan's hours and dollars and those hours at the catalogue's prices.

    `catalogue_usd`: phase -> dollars of the plan's hours at list prices; a phase that is missing shows `-`.
    `rehearsed`: times are the rehearsal's own seconds, no measure of a GPU. `steps`: a line for each step too.
    """
    table = new_table(f"cost of {report.run}{' (rehearsed)' if rehearsed else ''}")
    table.add_column("phase", overflow="fold", min_width=8)
    for name in ("took", "cost", "plan's\nhours", "plan's\ndollars", "at list\nprices"):
        table.add_column(name, justify="right", no_wrap=True)
    for phase in report.phases:
        planned = (hours(phase.planned_hours), money(phase.planned_usd), money(catalogue_usd.get(phase.phase)))
        table.add_row(phase.phase, duration(phase.hours * 3600) if phase.hours else "-", money(phase.usd), *planned)
        for step in phase.steps if steps else ():
            table.add_row(Text(f"  {step.name}", style="dim"), duration(step.seconds), money(step.usd))
        if steps:
            table.add_section()
    table.add_row("volumes", "", money(report.volumes_usd), end_section=True)
    table.add_row("total", *_sums(report, catalogue_usd), style="bold")
    notes = []
    if report.settled or report.total_usd:
        said = "settled: the provider has billed the machines" if report.settled else "not settled: it may still change"
        notes.append(said)
    if rehearsed:
        notes.append("rehearsed: seconds and dollars are the rehearsal's, at catalogue prices; nothing was paid")
    return Group(table, *(Text(note, style="dim") for note in notes))


def _sums(report: CostReport, catalogue_usd: Mapping[str, Decimal]) -> tuple[str, ...]:
    took = sum((phase.hours for phase in report.phases), Decimal(0)) * 3600
    planned = sum((phase.planned_hours or Decimal(0) for phase in report.phases), Decimal(0)) or None
    known = [catalogue_usd[phase.phase] for phase in report.phases if phase.phase in catalogue_usd]
    listed = sum(known, Decimal(0)) if known else None
    return (
        duration(took),
        money(report.total_usd),
        hours(planned),
        money(report.planned_usd if planned else None),
        money(listed),
    )


def preview(found: Preview) -> RenderableType:
    """What a run is expected to take: machine, price, and hours and dollars as estimated, measured and planned."""
    machines = [Text(f"{phase.phase}: {_choice(phase)}") for phase in found.phases]
    if found.volume_usd:
        machines.append(Text(f"total: with {money(found.volume_usd)} for the volume"))
    beside = _Beside(_phases(found, machines=True), _phases(found, machines=False), machines, LEAST_WORDS)
    parts: list[RenderableType] = [beside]
    parts += [Text(f"over budget: {sentence}", style="bold red") for sentence in found.over_budget]
    if dearest := max((p.dearest_hour for p in found.phases if _dearer(p) and p.dearest_hour), default=None):
        at_worst = f": {money(found.worst_usd)} in all" if found.worst_usd is not None else ""
        parts.append(Text(f"when these are sold out, others up to {money(dearest)}/h{at_worst}", style="dim"))
    rented = [p.offer for p in found.phases if p.offer] + [c.offer for p in found.phases for c in p.crews if c.offer]
    lines = [*own_disks(rented), *_ways(found), *(line for phase in found.phases for line in _pulled_in(phase))]
    parts += [Text(line, style="dim") for line in lines]
    return Group(*parts)


def own_disks(offers: Iterable[Offer]) -> list[str]:
    """What of these machines' prices is for their own disks: a line for each size; []: nothing."""
    billed = [offer for offer in offers if offer.disk_gb_hour and offer.disk_hour]
    sizes = {(round(offer.disk_hour / offer.disk_gb_hour), offer.disk_hour) for offer in billed}
    return [f"in a machine's price: {money(usd)}/h for its own disk of {gb} GB" for gb, usd in sorted(sizes)]


def _phases(found: Preview, *, machines: bool) -> Table:
    """A line a phase: its machines, where they stand among the figures, and what is known of hours and dollars."""
    rows = [
        (phase.phase, _choice(phase), money(phase.price_hour),
         _pair((phase.estimated_hours, phase.estimated_usd)), _pair(phase.measured), _pair(phase.planned),
         money(phase.budget_usd))
        for phase in found.phases
    ]  # fmt: skip
    volume = f"with {money(found.volume_usd)} for the volume" if found.volume_usd else ""
    estimate, planned = (
        _pair((found.estimated_hours, found.estimated_usd)),
        found.planned if any(found.planned) else None,
    )
    rows.append(("total", volume, "", estimate, _pair(found.measured), _pair(planned), money(found.budget_usd)))
    heads = ("phase", "machine", "$/hour", "estimated", "measured", "the plan", "budget")
    shown = [n for n in range(len(heads)) if n < FIGURES or any(row[n] != NOTHING for row in rows)]
    table = new_table(None)
    for n in shown:
        if n != MACHINE:
            table.add_column(heads[n], no_wrap=True, justify="right" if n else "left")
        elif machines:
            table.add_column(heads[n], overflow="fold", ratio=1)
    for row in rows:
        cells = [Text(row[n]) for n in shown if machines or n != MACHINE]
        table.add_row(*cells, style="bold" if row is rows[-1] else None)
    return table


class _Beside:
    """Figures with words beside them; where these have no room, the figures, and the words below."""

    def __init__(self, wide: Table, figures: Table, words: Sequence[Text], least: int) -> None:
        """`least`: characters that the words' column must have."""
        self._wide, self._figures, self._words, self._least = wide, figures, words, least

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See rich."""
        needs = Measurement.get(console, options.update(width=PLAIN_WIDTH), self._figures).maximum
        if needs + self._least <= options.max_width:
            yield self._wide
        else:
            yield self._figures
            yield from self._words


class Stands(Protocol):
    """How a step stands before a run: `str` of it says so, `mark` in one character."""

    @property
    def mark(self) -> str:
        """+ it runs, = it is done, ~ it was done otherwise."""

    @property
    def measured_s(self) -> float | None:
        """Seconds of its last real run; None: it never ran."""


_STYLES = {"+": "green", "=": "dim", "~": "yellow"}


def steps(found: Preview, stands: Mapping[str, Stands]) -> RenderableType:
    """A line a step below its phase: whether it runs, how long by itself, and how long it took before."""
    table = new_table(None)
    table.add_column("step", overflow="fold", ratio=1)
    for name in ("estimated", "measured"):
        table.add_column(name, justify="right", no_wrap=True)
    for phase in found.phases:
        table.add_row(Text(f"{phase.phase}  {phase.title}", style="bold"))
        for step in phase.steps:
            one = stands.get(step.id)
            mark, said = (one.mark, str(one)) if one else ("+", "run")
            name = step.id.removeprefix(f"{phase.phase}/") + (", of another phase" if step.pulled_in else "")
            took = duration(one.measured_s) if one and one.measured_s is not None else "-"
            text = Text(f"  {mark} {name}{f'  {said}' if mark == '~' else ''}", style=_STYLES[mark])
            table.add_row(text, duration(step.seconds), took)
    counts = Counter(stands[s.id].mark for p in found.phases for s in p.steps if s.id in stands)
    words = {"+": "to run", "~": "changed", "=": "done"}
    numbers = [f"{counts[mark]} {word}" for mark, word in words.items() if counts[mark]]
    return Group(table, Text(f"steps: {', '.join(numbers)}"))


def claims(found: Preview) -> RenderableType:
    """Where the plan is wrong, and the figures it expects beside what is so and what was measured."""
    parts: list[RenderableType] = []
    if found.notes:
        table = new_table("the plan against reality")
        for name, ratio in (("about", 1), ("the plan says", 2), ("in fact", 3)):
            table.add_column(name, overflow="fold", ratio=ratio)
        for note in found.notes:
            table.add_row(Text(note.about), Text(note.plan), Text(note.fact))
        parts.append(table)
    if found.expected:
        table = new_table("expected figures")
        for name in ("what", "the plan", "in fact", "measured"):
            table.add_column(name, overflow="fold", ratio=1)
        for item in found.expected:
            table.add_row(Text(item.what), Text(item.plan), Text(item.fact), Text(item.measured or "-"))
        parts.append(table)
    return Group(*parts)


def _choice(phase: PhasePreview) -> str:
    if phase.up_to_date:
        return "up to date, as last seen"
    if phase.takes_over and not phase.staged:
        return f"goes on with {phase.takes_over}'s machine"
    if phase.offer is None:
        return f"{phase.needs}: none is sold just now"
    offer = phase.offer
    cards = offer.gpu.replace("-", " ") if offer.gpus else offer.type_id
    many = f"{offer.gpus}x " if offer.gpus > 1 else ""
    nodes = f"{phase.nodes} machines, each " if phase.nodes > 1 else ""
    place = f" in {offer.place}" if offer.place else ""
    if phase.crews and all(crew.crew == "staging" for crew in phase.crews):
        return f"CPU machine, {offer.provider}{place}"
    before = "CPU machine, then " if phase.staged else ""
    return f"{before}{nodes}{many}{cards}, {offer.provider}{place}{', interruptible' if offer.spot else ''}"


def _dearer(phase: PhasePreview) -> bool:
    """Whether another machine that may be taken costs more than the first choice."""
    if phase.dearest_hour is None or phase.price_hour is None or phase.up_to_date:
        return False
    return phase.dearest_hour > phase.price_hour


def _ways(found: Preview) -> Iterable[str]:
    """The same work done otherwise, and how far off the estimate may be."""
    if found.ways is None or not found.estimated_hours:
        return
    ways = found.ways
    yield f"the plan's own way, every machine to the end of its phase: {_range(ways.own, ways.own_far_end)}"
    near = (found.estimated_hours, found.estimated_usd)
    if ways.cheapest != near:
        yield f"the cheapest way: {_pair(ways.cheapest)}"
    if ways.far_end != near:
        yield f"at the lowest rates known, where no run has measured any: {_pair(ways.far_end)}"
    if found.pull_hours:
        yield f"then {hours(found.pull_hours)} to bring the results home, when no machine is left: $0.00"


def _range(near: tuple[Decimal, Decimal | None], far: tuple[Decimal, Decimal | None]) -> str:
    return _pair(near) if near == far else f"{_pair(near)} to {_pair(far)}"


def _pair(figures: tuple[Decimal, Decimal | None] | None) -> str:
    return f"{hours(figures[0])} {money(figures[1])}" if figures else "-"


def _pulled_in(phase: PhasePreview) -> Iterable[str]:
    names = [step.id for step in phase.steps if step.pulled_in and not step.done]
    if names:
        saves = phase.earlier_first_saves_usd
        cheaper = f"; {money(saves)} less if their own phases run first" if saves is not None and saves > 0 else ""
        took = f"{hours(phase.pulled_in_hours)}, {money(phase.pulled_in_usd)}"
        yield f"{phase.phase} also runs {', '.join(names)} ({took}{cheaper})"


def new_table(title: str | None) -> Table:
    """A table as all of them look; None: without a title."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1),
    )
