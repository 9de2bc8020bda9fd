"""The pictures of a report as SVG, drawn by pygal: no script, no address, colours by the page's own variables.

Texts that others wrote are escaped before they reach a picture; pygal writes them as XML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pygal
from pygal.etree import etree
from pygal.style import Style

from orchestrator.report.figures import duration, money
from orchestrator.report.page.account import Account, Course, Point, Use
from orchestrator.report.page.text import shown
from orchestrator.words.lifecycle import StepState

WIDTH = 1100
ROW = 21  # height of a line of the timeline
MOST_ROWS = 150  # of the timeline: more are a table's matter
LONGEST = 34  # characters of a row's name
THINNEST = 0.004  # of the whole time: what took less is drawn as long
FAR = 4  # a line so many times above the highest cost would leave nothing of it to be seen
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800)

MOST_MACHINES = 12  # with a picture of their GPUs each
FINEST = 500  # points of one picture over time: more are not to be seen

_PEAKS = (("accent", "memory, peak"), ("warn", "busy, peak"))
OVER_TIME = (("accent", "memory"), ("warn", "busy"))

Place = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Picture:
    """`svg` goes into a page as it is, below its `legend`: a variable of the page for each colour, and its meaning.

    `beside`: what is not drawn, and why, a sentence each.
    """

    svg: str
    legend: tuple[tuple[str, str], ...] = ()
    beside: tuple[str, ...] = ()


def timeline(account: Account) -> Picture:
    """Machines, then steps, each on a line of its own from the run's beginning to its end."""
    rows = _rows(account)
    drawn = _longest(rows, MOST_ROWS)
    names = [row.name for row in drawn]
    begin = account.seen.started or account.until
    whole = max((account.until - begin).total_seconds(), 1.0)
    kinds = dict.fromkeys(row.kind for row in rows)
    chart = _xy(len(names) * ROW + 50, [_COLOURS[kind] for kind in kinds], whole)
    chart.range = (0.4, len(names) + 0.6)
    chart.y_labels = [{"label": shown(name, LONGEST), "value": len(names) - n} for n, name in enumerate(names)]
    chart.show_y_guides = False
    for kind in kinds:
        points: list[Place] = []
        for number, row in enumerate(drawn):
            height = len(names) - number
            for since, until in row.spans if row.kind == kind else ():
                left, right = _wide((since - begin).total_seconds(), (until - begin).total_seconds(), whole)
                points += [(left, height), (right, height), (None, None)]
        chart.add(kind, points, stroke_style={"width": 13, "linecap": "butt"})
    hidden = len(rows) - len(drawn)
    beside = (f"{hidden} more rows, the shortest ones, are not drawn: the tables have them all.",) if hidden else ()
    return Picture(_svg(chart, "Timeline of machines and steps"), tuple((_COLOURS[k], k) for k in kinds), beside)


def cost(account: Account) -> Picture:
    """What has accrued over time, with the budget, the plan's dollars and the estimate where they are near enough."""
    begin = account.seen.started or account.until
    whole = max((account.until - begin).total_seconds(), 1.0)
    top = max((usd for _, usd in account.curve), default=Decimal(0))
    series: list[tuple[str, str, list[Place]]] = [("spent", "accent", _points(account.curve, begin))]
    beside = []
    for name, colour, usd in (
        ("budget", "bad", account.seen.budget_usd),
        ("estimated when confirmed", "warn", account.confirmed_usd),
    ):
        if usd is None:
            continue
        if usd > top * FAR:
            beside.append(f"{name.capitalize()}: {money(usd)}, far above what is drawn{_share(top, usd)}.")
        else:
            series.append((name, colour, [(0.0, float(usd)), (whole, float(usd))]))
    if account.planned_at and (planned := account.planned_at[-1][1]):
        if planned > top * FAR:
            beside.append(
                f"The plan, for the phases that have ended: {money(planned)}, far above what is drawn"
                f"{_share(top, planned)}."
            )
        else:
            series.append(("the plan, for the phases done", "muted", _stairs(account.planned_at, begin, whole)))
    chart = _xy(320, [colour for _, colour, _ in series], whole)
    chart.value_formatter = lambda value: money(Decimal(str(round(value, 6))))
    chart.include_x_axis = True
    for name, _, points in series:
        chart.add(name, points, stroke_style={"width": 2.5 if name == "spent" else 1.5})
    legend = tuple((colour, name) for name, colour, _ in series)
    return Picture(_svg(chart, "Cost over time"), legend, tuple(beside))


def gpus(uses: Sequence[Use]) -> Picture:
    """The peaks of memory and of work of each step's cards, in percent."""
    chart = pygal.HorizontalBar(_config(len(uses) * 34 + 60), style=_style([colour for colour, _ in _PEAKS]))
    chart.range = (0, 100)
    names = [f"{one.step}{f' node {one.node}' if one.node else ''}" for one in uses]
    chart.x_labels = [shown(name, LONGEST) for name in names]
    chart.value_formatter = lambda value: f"{value:.0f} %"
    for (_, name), values in zip(
        _PEAKS, ([one.memory_percent for one in uses], [one.busy_percent for one in uses]), strict=True
    ):
        chart.add(name, values)
    return Picture(_svg(chart, "GPU memory and utilisation, peaks of each step"), _PEAKS)


def over_time(courses: Sequence[Course], begin: datetime, until: datetime) -> list[tuple[str, Picture]]:
    """What each machine's GPUs did, below one another on the time of the run: as the timeline lies above.

    The thick line is the highest of all its GPUs, the thin one their mean.
    """
    whole = max((until - begin).total_seconds(), 1.0)
    machines = dict.fromkeys(course.machine for course in courses)
    drawn = list(machines)[:MOST_MACHINES]
    return [(name, _of_machine([c for c in courses if c.machine == name], begin, whole, name)) for name in drawn]


def _of_machine(courses: Sequence[Course], begin: datetime, whole: float, name: str) -> Picture:
    chart = _xy(170, [colour for colour, _ in OVER_TIME for _ in range(2)], whole)
    chart.range = (0, 100)
    chart.y_labels = [0, 50, 100]
    chart.value_formatter = lambda value: f"{value:.0f} %"
    for kind, (_, word) in zip(("memory", "busy"), OVER_TIME, strict=True):
        for column, width, which in ((0, 2.2, "highest"), (1, 1.0, "mean")):
            points: list[Place] = []
            for course in courses:
                at = (course.since - begin).total_seconds()
                every_s, values = _no_finer(course.every_s, getattr(course, kind), whole / FINEST)
                for number, point in enumerate(values):
                    x = min(max(at + (number + 0.5) * every_s, 0.0), whole)
                    points.append((x, point[column]) if point else (None, None))
                points.append((None, None))
            chart.add(f"{word}, {which}", points, stroke_style={"width": width})
    return Picture(_svg(chart, f"GPU memory and utilisation of {shown(name)} over time"), OVER_TIME)


def _no_finer(every_s: float, points: Sequence[Point | None], least_s: float) -> tuple[float, Sequence[Point | None]]:
    """The points for stretches of at least so many seconds: the highest of each, and the mean of the means."""
    while every_s < least_s and len(points) > 1:
        pairs = [[p for p in points[n : n + 2] if p] for n in range(0, len(points), 2)]
        points = [(max(p[0] for p in pair), sum(p[1] for p in pair) / len(pair)) if pair else None for pair in pairs]
        every_s *= 2
    return every_s, points


def alone(picture: Picture) -> str:
    """A picture as a file of its own, in light and dark like a page that shows it."""
    look = (Path(__file__).parent / "colours.css").read_text("utf-8")
    head, _, rest = picture.svg.partition(">")
    return f"{head}><style>{look} svg {{ font-family: system-ui, sans-serif }} .line {{ fill: none }}</style>{rest}"


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    kind: str  # a key of _COLOURS
    spans: tuple[tuple[datetime, datetime], ...]

    @property
    def seconds(self) -> float:
        return sum((until - since).total_seconds() for since, until in self.spans)


_COLOURS = {"machine, paid": "machine", "done": "good", "failed": "bad", "running": "accent", "ended early": "muted"}
_KINDS = {
    StepState.DONE: "done",
    StepState.UP_TO_DATE: "done",
    StepState.READY: "running",
    StepState.RUNNING: "running",
    StepState.FAILED: "failed",
}


def _rows(account: Account) -> list[_Row]:
    machines: dict[str, list[tuple[datetime, datetime]]] = {}
    for one in account.stretches:
        machines.setdefault(one.machine, []).append((one.since, one.until or account.until))
    rows = [_Row(name, "machine, paid", tuple(spans)) for name, spans in machines.items()]
    for phase in account.seen.phases:
        begun = sorted((s for s in phase.steps if s.started), key=lambda s: s.started or account.until)
        for step in begun:
            name = step.name if "/" in step.name else f"{phase.name}/{step.name}"
            span = (step.started or account.until, step.ended or account.until)
            rows.append(_Row(name, _KINDS.get(step.state, "ended early"), (span,)))
    return rows


def _longest(rows: Sequence[_Row], most: int) -> list[_Row]:
    """At most so many, in their order: the longest ones."""
    chosen = sorted(range(len(rows)), key=lambda n: -rows[n].seconds)[:most]
    return [rows[n] for n in sorted(chosen)]


def _wide(left: float, right: float, whole: float) -> tuple[float, float]:
    """What took no time at all can still be seen."""
    least = whole * THINNEST
    left = min(max(left, 0.0), whole - least)
    return left, max(min(right, whole), left + least)


def _points(curve: Sequence[tuple[datetime, Decimal]], begin: datetime) -> list[Place]:
    return [(max((at - begin).total_seconds(), 0.0), float(usd)) for at, usd in curve]


def _stairs(steps: Sequence[tuple[datetime, Decimal]], begin: datetime, whole: float) -> list[Place]:
    points: list[Place] = [(0.0, 0.0)]
    before = 0.0
    for at, usd in steps:
        x = max((at - begin).total_seconds(), 0.0)
        points += [(x, before), (x, float(usd))]
        before = float(usd)
    return [*points, (whole, before)]


def _share(part: Decimal, whole: Decimal) -> str:
    return f" ({float(100 * part / whole):.2g} % of it is spent)" if part else ""


def _ticks(whole: float) -> list[float]:
    """Round moments, at most nine of them."""
    step = next((t for t in TICKS if whole / t <= 8), math.ceil(whole / 8 / 604800) * 604800)
    return [float(n * step) for n in range(int(whole / step) + 1)]


def _xy(height: int, colours: list[str], whole: float) -> pygal.XY:
    chart = pygal.XY(_config(height), style=_style(colours))
    chart.show_dots = False
    chart.allow_interruptions = True
    chart.xrange = (0, whole)
    chart.x_labels = _ticks(whole)
    chart.x_value_formatter = lambda value: duration(value) if value else "0"
    return chart


def _config(height: int) -> pygal.Config:
    return pygal.Config(
        width=WIDTH,
        height=height,
        explicit_size=False,
        js=[],
        show_legend=False,  # it is the page's: it folds where that is narrow
        truncate_label=-1,
        margin=8,
        print_values=False,
        disable_xml_declaration=True,
        no_data_text="nothing yet",
    )


def _style(colours: list[str]) -> Style:
    return Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--ink)",
        foreground_strong="var(--ink)",
        foreground_subtle="var(--line)",
        guide_stroke_color="var(--line)",
        major_guide_stroke_color="var(--line)",
        guide_stroke_dasharray="none",
        major_guide_stroke_dasharray="none",
        colors=tuple(f"var(--{colour})" for colour in colours),
        stroke_width="inherit",  # each series says its own
        stroke_opacity="1",
        opacity="1",
        opacity_hover="1",
        transition="0s",
        font_family="inherit",
        label_font_size=12,
        major_label_font_size=12,
        value_font_size=12,
        no_data_font_size=16,
    )


def _svg(chart: pygal.XY | pygal.HorizontalBar, title: str) -> str:
    """The picture as text for a page: without scripts and remarks, with a name for who does not see it."""
    chart.title = None
    root = chart.render_tree()
    for parent in list(root.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or child.tag.rpartition("}")[2] in ("script", "title"):
                parent.remove(child)
    root.set("role", "img")
    root.set("aria-label", title)
    return str(etree.tostring(root, encoding="unicode"))
