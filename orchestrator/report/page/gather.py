"""From the ledger to the account of a run: read alone, nothing is locked, nobody is asked."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

from orchestrator import cost
from orchestrator.engine import accounting, names
from orchestrator.engine.artifacts import manifest_packs
from orchestrator.engine.evidence import OF_GPUS, SAMPLED
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import FigureRow
from orchestrator.plan.notes import expectations
from orchestrator.report import documents, header, leftover, verdicts, views
from orchestrator.report.naming import machine_name
from orchestrator.report.page.account import Account, Benchmark, Course, Failure, Measure, Saved, Stretch, Use
from orchestrator.report.snapshot import Snapshot
from orchestrator.words.lifecycle import RunState, StepState
from orchestrator.words.model import Plan
from orchestrator.words.spec import RunSpec

EVENTS = 500  # the newest ones
LAST_LINES = 10  # of a step that failed
LAST_BYTES = 20_000  # ... out of so many


def account(ledger: Ledger, spec: RunSpec, folder: Path, *, driven: bool) -> Account:
    """The run at this moment. `folder`: the run's, for its logs; `driven`: whether a living process drives it."""
    seen = views.snapshot(ledger, spec, driven=driven)
    now = accounting.moment(ledger.now())
    machines = accounting.machine_charges(ledger, spec.run)
    volumes = accounting.volume_charges(ledger, spec.run)
    until = max([seen.ended or now, *(c.gone_at or now for c in machines)]) if seen.ended else now
    called = {row.name: machine_name(row) for row in ledger.machines.all(run=spec.run)}
    figures = ledger.figures.all(run=spec.run)
    bill = documents.bill(ledger, spec.run, spec.plan)
    return Account(
        seen=seen,
        until=until,
        called=spec.plan.called,
        outcome=header.where(seen),
        reason=documents.reason(ledger, spec.run),
        bill=bill,
        stretches=tuple(
            Stretch(called[c.name], c.phase, c.price_hour, c.accepted_at, c.gone_at)
            for c in sorted(machines, key=lambda c: (c.accepted_at, c.name))
        ),
        curve=accrual([*machines, *volumes], until),
        planned_usd=bill.planned_usd or None,
        planned_at=_planned_at(seen, spec.plan),
        confirmed_usd=_confirmed(spec),
        verdicts=tuple(verdicts.of_run(ledger, spec)),
        gpus_shown=not spec.world.dry_run,
        uses=uses(figures) if not spec.world.dry_run else (),
        courses=courses(ledger, spec),
        measures=tuple(_measure(f) for f in _in_order(figures) if f.name not in SAMPLED),
        benchmarks=benchmarks(spec, figures),
        saved=_saved(ledger, spec.run, folder),
        failures=_failures(ledger, spec, folder),
        events=tuple(
            (accounting.moment(e.at), names.spoken(e.text, [p.name for p in spec.plan.phases]))
            for e in ledger.newest_events(spec.run, EVENTS, minor=False)
        ),
        kept=tuple(leftover.kept(ledger, spec)) if seen.state == RunState.DONE else (),
        version=version("gpuplan"),
    )


def accrual(charges: Sequence[cost.Charge], until: datetime) -> tuple[tuple[datetime, Decimal], ...]:
    """What has accrued at each moment at which what is paid an hour changes, up to `until`; straight in between."""
    starts = [c.accepted_at if isinstance(c, cost.MachineCharge) else c.created_at for c in charges]
    ends = [c.gone_at for c in charges if c.gone_at]
    moments = sorted({min(at, until) for at in (*starts, *ends, until)}) if charges else []
    return tuple((at, cost.accrued(_until(charges, at), at)) for at in moments)


def _until(charges: Sequence[cost.Charge], at: datetime) -> list[cost.Charge]:
    """The charges as they stood then."""
    found: list[cost.Charge] = []
    for one in charges:
        since = one.accepted_at if isinstance(one, cost.MachineCharge) else one.created_at
        if since <= at:
            found.append(replace(one, gone_at=min(one.gone_at, at) if one.gone_at else at))
    return found


def _planned_at(seen: Snapshot, plan: Plan) -> tuple[tuple[datetime, Decimal], ...]:
    """The plan's dollars for the phases that had ended by then; () where the plan says nothing of money."""
    planned = {p.name: p.planned.usd for p in plan.phases if p.planned}
    ended = sorted((p.ended, p.name) for p in seen.phases if p.ended and p.started)
    total, found = Decimal(0), []
    for at, name in ended:
        total += planned.get(name, Decimal(0))
        found.append((at, total))
    return tuple(found) if planned else ()


def _confirmed(spec: RunSpec) -> Decimal | None:
    """What the run was estimated at. None: it was not, or a price was unknown."""
    known = [one.usd for one in spec.expected.values()]
    return sum((usd for usd in known if usd is not None), Decimal(0)) if known and None not in known else None


def uses(figures: Sequence[FigureRow]) -> tuple[Use, ...]:
    """The peaks of each step on each of its nodes, where anything of a card was sampled."""
    found: dict[tuple[str, int], Use] = {}
    for row in _in_order([f for f in figures if f.name in OF_GPUS]):
        one = found.get((row.step, row.node), Use(row.step, row.node, row.device))
        if row.name == "gpu_memory_percent":
            one = replace(one, memory_percent=row.value)
        elif row.name == "gpu_memory_mib":
            one = replace(one, memory_mib=row.value)
        elif row.name == "gpu_utilisation":
            one = replace(one, busy_percent=row.value)
        found[row.step, row.node] = one
    return tuple(found.values())


def courses(ledger: Ledger, spec: RunSpec) -> tuple[Course, ...]:
    """What the GPUs of each machine did over time, by machine and step; (): no GPU was seen.

    A machine's clock may be wrong: what it says lies within the time in which the step ran.
    """
    if spec.world.dry_run or not (rows := ledger.courses.all(run=spec.run)):
        return ()
    called = {row.name: machine_name(row) for row in ledger.machines.all(run=spec.run)}
    steps = {row.id: row for row in ledger.steps.all(run=spec.run)}
    found = []
    for row in rows:
        points: dict[str, list[list[float] | None]] = json.loads(row.points)
        memory, busy = (tuple((p[0], p[1]) if p else None for p in points[name]) for name in ("memory", "busy"))
        since, step = row.since, steps.get(row.step)
        if step and step.started_at:
            last = (step.ended_at or ledger.now()) - row.every_s * (max(len(memory), len(busy)) - 1)
            since = max(min(since, last), step.started_at)
        name = called.get(row.machine, row.machine)
        found.append(Course(row.step, name, accounting.moment(since), row.every_s, memory, busy))
    return tuple(sorted(found, key=lambda c: (c.machine, c.since)))


def _in_order(figures: Sequence[FigureRow]) -> list[FigureRow]:
    return sorted(figures, key=lambda f: (f.step, f.node, f.name))


def _measure(row: FigureRow) -> Measure:
    return Measure(row.step, row.node, row.name, row.value, row.measured_on, row.device)


def benchmarks(spec: RunSpec, figures: Sequence[FigureRow]) -> tuple[Benchmark, ...]:
    """What the plan expects beside what this run measured, on the first of its nodes."""
    planned = [phase.planned for phase in spec.plan.phases if phase.planned]
    settings = spec.plan.settings
    sizes = [p.volume.size_gb for p in spec.plan.phases if p.volume]
    known: dict[str, Decimal | None] = {
        "planned_hours": sum((p.hours for p in planned), Decimal(0)),
        "planned_usd": sum((p.usd for p in planned), Decimal(0)),
        "estimated_hours": sum((one.hours for one in spec.expected.values()), Decimal(0)) or None,
        "estimated_usd": _confirmed(spec),
        "volume_gb": Decimal(max(sizes)) if sizes else None,
    }
    known |= {f"rate_{name}": getattr(settings.rates, name) for name in type(settings.rates).model_fields}
    told = [f for f in figures if f.name not in OF_GPUS or not spec.world.dry_run]  # a stand-in's are no card's
    measured = {(f.step, f.name): (f.value, f.measured_on) for f in sorted(told, key=lambda f: -f.node)}
    return tuple(
        Benchmark(one.what, one.plan, one.fact, *(one.measured or "").partition(" on ")[::2])
        for one in expectations(spec.plan.notes, known, measured)
    )


def _saved(ledger: Ledger, run: str, folder: Path) -> tuple[Saved, ...]:
    """Every object that was to be saved, once, with the stores that have it."""
    found: dict[str, Saved] = {}
    packs = [manifest_packs(file.read_text()) for file in folder.glob("manifest-*.json")]
    holds = {name: len(pack.members) for each in packs for name, pack in each.items()}
    for row in ledger.artifacts.all(run=run):
        verified = row.state == "VERIFIED"
        old = found.get(row.name, Saved(row.name, row.bytes, row.sha256, (), files=holds.get(row.name, 0)))
        found[row.name] = replace(
            old,
            bytes=row.bytes or old.bytes,
            sha256=row.sha256 or old.sha256,
            stores=(*old.stores, row.store) if verified else old.stores,
            missing=old.missing if verified else (*old.missing, row.store),
        )
    return tuple(found[name] for name in sorted(found))


def _failures(ledger: Ledger, spec: RunSpec, folder: Path) -> tuple[Failure, ...]:
    phases = [p.name for p in spec.plan.phases]
    return tuple(
        Failure(row.id, names.spoken(row.detail.split("\n", 1)[0], phases), _last_lines(folder, row.phase, row.id))
        for row in ledger.steps.all(run=spec.run, state=StepState.FAILED)
    )


def _last_lines(folder: Path, phase: str, step: str) -> tuple[str, ...]:
    """The last lines of a step's log; (): there is none."""
    name = step.removeprefix(f"{phase}/").replace("/", ".")
    try:
        with (folder / "logs" / phase / f"{name}.log").open("rb") as file:
            file.seek(max(file.seek(0, 2) - LAST_BYTES, 0))
            return tuple(deque(file.read().decode("utf-8", "replace").splitlines(), LAST_LINES))
    except OSError:
        return ()
