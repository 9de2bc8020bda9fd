"""The text of a `report` step: the plan's own words above the figures that this run measured, and where."""

from __future__ import annotations

from orchestrator.engine.context import Context
from orchestrator.ledger.rows import MetricRow
from orchestrator.words.model import Step

SAMPLED = frozenset({"gpu_memory_percent", "gpu_memory_mib", "gpu_utilisation", "disk_free_mib_min"})
TOLD = frozenset({"gpu_memory_percent", "gpu_memory_mib"})  # of what was only sampled beside it


def render(context: Context, step: Step) -> str:
    """The step's text, then a table of every measured figure. No figure that was not measured is in it."""
    found = context.ledger.metrics.all(run=context.run)
    measured = {row.step for row in found if row.name not in SAMPLED}  # steps that measure something on purpose
    rows = sorted((row for row in found if _shown(row, measured)), key=lambda row: (row.step, row.name))
    lines = [step.text.rstrip(), "", "### Measured", ""]
    if not rows:
        lines.append("Nothing was measured.")
    else:
        lines += ["| step | figure | value | measured on |", "|---|---|---:|---|"]
        lines += [f"| {row.step} | {row.name} | {row.value:,.4g} | {row.measured_on} |" for row in rows]
    if not context.provider.shows_gpu:
        lines += ["", "These are figures of tiny stand-in models on a CPU, not of a GPU."]
    return "\n".join(lines) + "\n"


def _shown(row: MetricRow, measured: set[str]) -> bool:
    return row.step in measured and (row.name not in SAMPLED or row.name in TOLD)
