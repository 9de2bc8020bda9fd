"""A plan's own texts with what its run measured: a figure that nobody bears out is "not measured", whatever is hoped.

A figure stands here as far as engine/evidence.py lets it pass, with where it was measured beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from orchestrator.engine.evidence import CPU, SAMPLED, Evidence, NotShown
from orchestrator.engine.sources import Sources
from orchestrator.engine.write_up import TOLD
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import FigureRow
from orchestrator.plan import resolve
from orchestrator.plan.placeholders import Figure, Placeholder, fill
from orchestrator.report import verdicts
from orchestrator.report.figures import hours, money, plain, size
from orchestrator.report.page import gather
from orchestrator.report.page.account import Account
from orchestrator.report.page.markdown import STANDS_IN, table
from orchestrator.report.page.text import markdown
from orchestrator.words.errors import StepFailed
from orchestrator.words.lifecycle import StepState
from orchestrator.words.spec import RunSpec

NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """One file of a model's repository."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Texts:
    """What texts may tell of a run. `facts`: placeholder -> Markdown; `figures`: those that are borne out."""

    facts: Mapping[str, str]
    figures: Sequence[FigureRow]
    rehearsed: bool

    def filled(self, text: str, more: Mapping[str, str] | None = None) -> str:
        """The text with its placeholders filled; of a rehearsal, that first. `more`: facts of this text alone."""
        facts = {**self.facts, **(more or {})}

        def value(one: Placeholder) -> str:
            return self._figure(one) if isinstance(one, Figure) else facts[one]

        caveat = f"> {STANDS_IN}\n\n" if self.rehearsed else ""
        return caveat + fill(text, value).strip() + "\n"

    def _figure(self, wanted: Figure) -> str:
        """The figure of the first node that has it, and where it was measured."""
        found = [f for f in self.figures if (f.step, f.name) == (wanted.step, wanted.name)]
        if wanted.device:
            found = [f for f in found if f.device and (f.device == CPU) == (wanted.device == CPU)]
        return _told(min(found, key=lambda f: f.node)) if found else NOT_MEASURED


def texts(
    ledger: Ledger, runs: Sequence[RunSpec], account: Account, sources: Sources, said: Mapping[str, str]
) -> Texts:
    """What the texts of a run may say. `runs`: it, then those that it goes on with; `said`: facts that it was told."""
    figures = borne_out(ledger, runs)
    bill, seen = account.bill, account.seen
    measured = gather.benchmarks(runs[0], figures)
    expected = [(b.what, b.plan, b.fact, b.measured or NOT_MEASURED, b.where) for b in measured]
    facts = {
        "plan": markdown(seen.plan),
        "run": seen.run,
        "date": f"{seen.ended or account.until:%Y-%m-%d}",
        "gpuplan": account.version,
        "machine_hours": hours(sum((p.hours for p in bill.phases), Decimal(0))),
        "machine_usd": money(sum((p.usd for p in bill.phases), Decimal(0))),
        "deliverables": verdicts.summary(account.verdicts),
        "benchmarks": _rows(("what", "the plan expects", "in fact", "measured", "where"), expected),
        "figures": _all(figures),
        "made_of": "\n".join(sources.lines()) or "- not known",
    }
    return Texts({**facts, **said}, figures, rehearsed=not account.gpus_shown)


def borne_out(ledger: Ledger, runs: Sequence[RunSpec]) -> list[FigureRow]:
    """Every figure that may be told, as far as it is borne out: of each step in the first of the runs that did it."""
    found: list[FigureRow] = []
    done = set[str]()
    for spec in runs:
        phases = {phase.phase.name: phase for phase in resolve(spec.plan, spec.asked)}
        for row in ledger.steps.all(run=spec.run, state=StepState.DONE):
            if row.id in done or row.phase not in phases:
                continue
            done.add(row.id)
            evidence = Evidence(ledger, phases[row.phase], row, shows_gpu=not spec.world.dry_run)
            for name in sorted({figure.name for figure in ledger.figures.all(run=spec.run, step=row.id)}):
                found += _shown(evidence, name)
    return found


def _shown(evidence: Evidence, name: str) -> list[FigureRow]:
    try:
        return [_placed(replace(one.figure, value=one.value)) for one in evidence.shown(name, None)]
    except (StepFailed, NotShown):
        return []


def _placed(figure: FigureRow) -> FigureRow:
    """The figure with the device beside what its program calls the place: a CPU may be called as it likes."""
    where, device = figure.measured_on, figure.device
    if not where or (not device and figure.name in SAMPLED):
        return figure
    if not device:
        return replace(figure, measured_on=f"{where}, as its program says")
    return figure if device in where else replace(figure, measured_on=f"{where} ({device})")


def card(text: str, base_model: str, license_: str) -> str:
    """A model card: what the hub reads of it above its text."""
    return f"---\nlicense: {license_}\nbase_model: {base_model}\n---\n\n{text}"


def uploaded(files: Sequence[Uploaded]) -> str:
    """The files of a model as a table."""
    return _rows(("file", "size", "sha256"), [(f.name, size(f.bytes), f.sha256) for f in files])


def _all(figures: Sequence[FigureRow]) -> str:
    """Every figure of a step that measures something on purpose, and what was sampled of its GPUs beside it."""
    measuring = {f.step for f in figures if f.name not in SAMPLED}
    told = [f for f in figures if f.step in measuring and (f.name not in SAMPLED or f.name in TOLD)]
    rows = [
        (f.step + (f", node {f.node}" if f.node else ""), f.name, plain(f.value), f.measured_on or f.device)
        for f in sorted(told, key=lambda f: (f.step, f.node, f.name))
    ]
    return _rows(("step", "figure", "value", "measured on"), rows)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(table(head, rows)) if rows else "Nothing was measured."


def _told(figure: FigureRow) -> str:
    where = figure.measured_on or figure.device
    if not where:
        return f"{plain(figure.value)}, it is not said on what"
    return f"{plain(figure.value)}{', ' if where.startswith('sampled ') else ' on '}{markdown(where)}"
