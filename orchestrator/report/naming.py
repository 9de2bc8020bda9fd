"""What things are called before people: `day2-3#1` instead of what a provider lists, cards by their own names."""

from __future__ import annotations

from orchestrator.engine.names import MachineName
from orchestrator.ledger.rows import MachineRow, StepRow


def machine_name(row: MachineRow) -> str:
    """`day2-3#1`: the phase that asked for the machine, and which of its machines it is."""
    parsed = MachineName.parse(row.name)
    return f"{row.phase}#{parsed.number}" if parsed else row.name


def what(row: MachineRow) -> str:
    """`2x A100 80GB in EU-RO-1, interruptible`."""
    cards = (row.gpu or row.type_id).replace("-", " ") if row.gpus else row.type_id
    many = f"{row.gpus}x " if row.gpus > 1 else ""
    place = f" in {row.place}" if row.place else ""
    return f"{many}{cards}{place}{', interruptible' if row.spot else ''}".strip()


def shown(step: StepRow) -> str:
    """A step's own name inside its phase; PHASE/STEP for one that was pulled in."""
    return step.id.removeprefix(f"{step.phase}/")
