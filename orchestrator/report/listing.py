"""Every run of this home in a line each, from the ledger alone: `gpuplan ls`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from orchestrator import cost
from orchestrator.engine import accounting
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import RunRow
from orchestrator.report.figures import money, spoken
from orchestrator.words.lifecycle import PhaseState, RunState
from orchestrator.words.outside import escape


@dataclass(frozen=True, slots=True)
class Listed:
    """One run. `usd_hour`: what it costs now; `usd`: so far; `kept`: its volumes that go on costing, in words.

    What a rehearsal keeps costs nothing.
    """

    run: str
    plan: str
    state: str
    usd_hour: Decimal
    usd: Decimal
    kept: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def runs(ledger: Ledger, is_driven: Callable[[str], bool], tag: str = "") -> list[Listed]:
    """All runs, the newest first; `tag`: those that have it. `is_driven`: whether a living process drives a run."""
    rows = reversed(ledger.runs.all())
    return [_listed(ledger, row, is_driven) for row in rows if not tag or tag in row.tags.split(",")]


def between_runs(ledger: Ledger) -> Decimal:
    """USD of kept volumes while no run of theirs was under way: it is in no run's cost. A rehearsal's cost nothing."""
    now, rows = accounting.moment(ledger.now()), ledger.runs.all()
    play = {row.id for row in rows if row.is_play}
    whole = [
        cost.VolumeCharge(
            v.name, v.price_hour, accounting.moment(v.sent_at), accounting.moment(v.gone_at) if v.gone_at else None
        )
        for v in ledger.volumes.all()
        if v.sent_at and v.run not in play
    ]
    named = {charge.name for charge in whole}
    in_runs = [c for row in rows for c in accounting.volume_charges(ledger, row.id) if c.name in named]
    return max(cost.accrued(whole, now) - cost.accrued(in_runs, now), Decimal(0))


def table(rows: Sequence[Listed], width: int) -> list[str]:
    """A head and a line a run, columns below one another; what is kept, and tags, fold below where it is narrow."""
    cells = [("RUN", "PLAN", "STATE", "NOW", "SO FAR", "KEPT"), *(_cells(row) for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(5)]
    lines = []
    for row in cells:
        figures = [f"{row[3]:>{widths[3]}}", f"{row[4]:>{widths[4]}}"]
        line = "  ".join([*(f"{row[n]:{widths[n]}}" for n in range(3)), *figures])
        fits = len(line) + 2 + len(row[5]) <= width
        lines += [f"{line}  {row[5]}"] if fits else [line, f"    {row[5]}"]
    return lines


def _cells(row: Listed) -> tuple[str, ...]:
    now = f"{money(row.usd_hour)}/h" if row.usd_hour else "-"
    tags = f"tags: {', '.join(row.tags)}" if row.tags else ""
    kept = "; ".join([*row.kept, *filter(None, [tags])]) or "-"
    return tuple(escape(text) for text in (row.run, row.plan, row.state, now, money(row.usd), kept))


def _listed(ledger: Ledger, row: RunRow, is_driven: Callable[[str], bool]) -> Listed:
    machines = [m.price_hour for m in ledger.machines.all(run=row.id) if not m.state.is_final]
    volumes = [v for v in ledger.volumes.all(run=row.id) if not v.state.is_final]
    over = row.state == RunState.DONE
    kept = volumes if over and not row.is_play else []
    return Listed(
        run=row.id,
        plan=f"{row.plan or '-'}{' (rehearsed)' if row.dry_run else ''}",
        state=_state(ledger, row, is_driven),
        usd_hour=sum(machines, Decimal(0) if over else sum((v.price_hour for v in volumes), Decimal(0))),
        usd=accounting.accrued(ledger, row.id),
        kept=tuple(f"volume {v.label} {v.size_gb} GB {money(v.price_hour * 24)}/day" for v in kept),
        tags=tuple(tag for tag in row.tags.split(",") if tag),
    )


def _state(ledger: Ledger, row: RunRow, is_driven: Callable[[str], bool]) -> str:
    if row.state == RunState.DONE:
        return spoken(row.outcome or row.state)
    if not is_driven(row.id):
        return "no process"
    busy = (p.name for p in ledger.phases.all(run=row.id) if p.state not in (PhaseState.PLANNED, PhaseState.DONE))
    return f"{spoken(row.state)}, {name}" if (name := next(busy, "")) else spoken(row.state)
