"""Before a volume is deleted: which ones, what is on them and what it would cost to make again; somebody agrees."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from decimal import Decimal

import typer

from orchestrator.config.prices import load_prices
from orchestrator.engine import accounting
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import VolumeRow
from orchestrator.plan import candidates, makespan
from orchestrator.plan.resolve import StepRun, all_steps
from orchestrator.report.console import say
from orchestrator.report.figures import hours, money
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import RunState
from orchestrator.words.spec import RunSpec

SHOWN = 6  # steps that a line names


def doomed(ledger: Ledger, spec: RunSpec) -> list[VolumeRow]:
    """The living volumes of the run's plan where the run is. UsageError: another run that has not ended holds one."""
    rows = [row for row in accounting.living_volumes(ledger, spec) if row.provider == spec.world.provider]
    for row in rows:
        claim = ledger.claims.maybe(world=spec.cloud_or_host, label=row.label)
        holder = ledger.runs.maybe(id=claim.run) if claim and claim.run != spec.run else None
        if holder and holder.state != RunState.DONE:
            raise UsageError(
                f"{holder.id} has not ended, and works on {row.name}: it is not deleted",
                remedy=f"gpuplan down {holder.id} ends that run first",
            )
    return rows


def agreed(ledger: Ledger, spec: RunSpec, rows: Iterable[VolumeRow], *, yes: bool, json: bool) -> list[str] | None:
    """The names of the volumes that somebody wants deleted; None: nobody is there to be asked.

    What a throw-away rehearsal holds goes without a question.
    """
    names = []
    for row in rows:
        if not spec.world.throwaway:
            say(_words(ledger, spec, row), err=json)
        if yes or spec.world.throwaway:
            names.append(row.name)
        elif not sys.stdin.isatty():
            return None
        elif typer.confirm("Delete it, with what is on it?", err=json):
            names.append(row.name)
    return names


def _words(ledger: Ledger, spec: RunSpec, row: VolumeRow) -> str:
    """What goes with the volume."""
    place = f" in {row.place}" if row.place else ""
    made = "" if row.run == spec.run else f", made by {row.run}"
    what = f"volume {row.name}: {row.size_gb} GB at {row.provider}{place}, {money(row.price_hour * 24)} a day{made}"
    steps = all_steps(spec.plan)
    done = [steps[r.step] for r in ledger.records.all(volume=row.name) if r.step in steps]
    if not done:
        return f"{what}\n  no finished step is known to be on it"
    more = f" and {len(done) - SHOWN} more" if len(done) > SHOWN else ""
    took, usd = _again(ledger, spec, done)
    return (
        f"{what}\n  on it: {', '.join(step.id for step in done[:SHOWN])}{more}\n"
        f"  to make that again takes about {hours(took)} and {money(usd)}"
    )


def _again(ledger: Ledger, spec: RunSpec, done: list[StepRun]) -> tuple[Decimal, Decimal]:
    """Hours and dollars of these steps, each in its own phase, at what its machines cost last or are listed for."""
    took = usd = Decimal(0)
    for phase in {step.phase: None for step in done}:
        seconds = makespan([step for step in done if step.phase == phase], spec.plan.settings, {})
        spent = Decimal(seconds + spec.plan.settings.boot_seconds) / 3600
        took, usd = took + spent, usd + spent * _price(ledger, spec, phase)
    return took, usd


def _price(ledger: Ledger, spec: RunSpec, phase: str) -> Decimal:
    """USD an hour of the phase's machines."""
    need = spec.plan.phase(phase).machine
    had = [
        row.price_hour
        for row in ledger.machines.all(phase=phase)
        if row.provider_id and bool(row.gpus) == bool(need.gpu)
    ]
    if not had:
        listed = candidates(need, load_prices().offers(need, spot=False), place=None, spot=False)
        had = [listed[0].price_hour] if listed else [Decimal(0)]
    return had[-1] * need.nodes
