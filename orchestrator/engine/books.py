"""The books of a run: opened with all that is to do, closed when nobody goes on with it."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.ledger import Ledger
from orchestrator.ledger.database import Connection
from orchestrator.ledger.rows import ClaimRow, PhaseRow, RunRow, StepRow
from orchestrator.plan import resolve
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import Outcome, PhaseState, RunState, StepState
from orchestrator.words.spec import RunSpec


def open_books(ledger: Ledger, spec: RunSpec, run: RunRow) -> None:
    """Write the run, its phases and its steps down, still to do, and claim its volumes: all of it or nothing.

    Phases with nothing to do are done from the beginning.
    `run`: the run's own row, as the edge has made it.
    UsageError: another run that has not ended works on one of the volumes; then nothing is written.
    """
    phases, positions = resolve(spec.plan, spec.asked), {name: n for n, name in enumerate(spec.wanted)}
    labels = {spec.label(v) for name in spec.wanted if (v := spec.plan.phase(name).volume)}

    def all_of_it(at_once: Connection) -> None:  # it has the write lock: nobody claims between the look and the claim
        for label in sorted(labels):
            _require_unclaimed(ledger, spec, label)
            ledger.claims.put_in(at_once, ClaimRow(world=spec.cloud_or_host, label=label, run=spec.run))
        ledger.runs.put_in(at_once, run)
        for name, finisher in spec.done_before.items():
            _copy_finished(ledger, at_once, spec, name, finisher, positions[name])
        for phase in phases:
            name = phase.phase.name
            row = PhaseRow(run=spec.run, name=name, position=positions[name], state=PhaseState.PLANNED)
            ledger.phases.put_in(at_once, row)
            for number, step in enumerate(phase.steps):
                todo = StepRow(run=spec.run, phase=name, id=step.id, position=number, state=StepState.PENDING)
                ledger.steps.put_in(at_once, todo)

    ledger.write(all_of_it)


def _copy_finished(ledger: Ledger, into: Connection, spec: RunSpec, name: str, finisher: str, position: int) -> None:
    """Write a phase down of which nothing is left to do, with what the run that finished it found."""
    row = PhaseRow(
        run=spec.run, name=name, position=position, state=PhaseState.DONE, outcome=Outcome.SUCCEEDED,
        ended_at=ledger.phases.get(run=finisher, name=name).ended_at,
    )  # fmt: skip
    ledger.phases.put_in(into, row)
    for number, step in enumerate(spec.plan.phase(name).steps):
        done = StepRow(run=spec.run, phase=name, id=f"{name}/{step.name}", position=number, state=StepState.UP_TO_DATE)
        ledger.steps.put_in(into, done)
    for found in ledger.deliverables.all(run=finisher, phase=name):
        ledger.deliverables.put_in(into, replace(found, run=spec.run, detail=f"{found.detail} (in run {finisher})"))


def _require_unclaimed(ledger: Ledger, spec: RunSpec, label: str) -> None:
    claim = ledger.claims.maybe(world=spec.cloud_or_host, label=label)
    if claim is None or claim.run == spec.run:
        return
    holder = ledger.runs.maybe(id=claim.run)
    if holder and holder.state != RunState.DONE:
        raise UsageError(
            f"{claim.run} has not ended, and works on the same volume ({label})",
            remedy=f"gpuplan logs -f {claim.run} looks on, gpuplan resume {claim.run} goes on with it if nobody does, "
            f"gpuplan down {claim.run} ends it",
        )


def strike(ledger: Ledger, run: str) -> None:
    """Take the books of a run that was given up before it began out again."""
    for book in (ledger.deliverables, ledger.steps, ledger.phases, ledger.claims):
        book.remove(run=run)
    ledger.runs.remove(id=run)


def close_steps(ledger: Ledger, run: str, phase: str) -> None:
    """What did not begin is skipped, what is under way (a service that answers too) was interrupted."""
    for step in ledger.steps.all(run=run, phase=phase):
        if step.state in (StepState.PENDING, StepState.RUNNING, StepState.READY):
            state = StepState.SKIPPED if step.state == StepState.PENDING else StepState.INTERRUPTED
            ledger.steps.move({"run": run, "phase": phase, "id": step.id}, state, ended_at=ledger.now())


def close_books(ledger: Ledger, run: str) -> None:
    """Mark everything of the run as ended; what was under way was interrupted."""
    for phase in ledger.phases.all(run=run):
        close_steps(ledger, run, phase.name)
        key = {"run": run, "name": phase.name}
        if phase.state != PhaseState.DONE:
            ledger.phases.move(key, PhaseState.TEARING_DOWN, outcome=phase.outcome or Outcome.INTERRUPTED)
            ledger.phases.move(key, PhaseState.DONE, ended_at=phase.ended_at or ledger.now())
    row = ledger.runs.get(id=run)
    if row.state != RunState.DONE:
        ledger.runs.move({"id": run}, RunState.TEARING_DOWN, outcome=row.outcome or Outcome.INTERRUPTED)
        ledger.runs.move({"id": run}, RunState.DONE, ended_at=ledger.now())
