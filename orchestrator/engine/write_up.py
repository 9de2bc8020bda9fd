"""The text of a `report` step: the plan's own words above the figures that this run measured, where and of what."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.engine.context import Context
from orchestrator.engine.evidence import OF_GPUS, SAMPLED
from orchestrator.engine.sources import Sources
from orchestrator.ledger.rows import FigureRow
from orchestrator.words.model import Step

TOLD = frozenset({"gpu_memory_percent", "gpu_memory_mib"})  # of what was only sampled beside it


@dataclass(frozen=True, slots=True)
class WriteUp:
    """A page, and how many measured figures are in it."""

    text: str
    figures: int


def render(context: Context, step: Step, sources: Sources) -> WriteUp:
    """The step's text, then a table of every measured figure, then what all of it was made of.

    No figure that was not measured is in it.
    Nor is what was sampled of a card that a CPU stands in for.
    """
    hidden = frozenset() if context.provider.shows_gpu else OF_GPUS
    found = context.ledger.figures.all(run=context.run)
    measured = {row.step for row in found if row.name not in SAMPLED}  # steps that measure something on purpose
    told = [row for row in found if _shown(row, measured) and row.name not in hidden]
    rows = sorted(told, key=lambda row: (row.step, row.node, row.name))
    lines = [step.text.rstrip(), "", "### Measured", ""]
    if not rows:
        lines.append("Nothing was measured.")
    else:
        lines += ["| step | figure | value | measured on |", "|---|---|---:|---|"]
        lines += [f"| {row.step} | {row.name} | {row.value:,.4g} | {row.measured_on} |" for row in rows]
    if not context.provider.shows_gpu:
        lines += ["", "These are figures of tiny stand-in models on a CPU, not of a GPU."]
    if made_of := sources.lines():
        lines += ["", "### Made of", "", *made_of]
    return WriteUp("\n".join(lines) + "\n", len(rows))


def _shown(row: FigureRow, measured: set[str]) -> bool:
    return row.step in measured and (row.name not in SAMPLED or row.name in TOLD)
