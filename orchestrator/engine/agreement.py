"""What the volume shows once it is mounted, and the preview did not know: agreed to before it costs or counts.

More work than was previewed costs; a done-record that this owner's ledger has no copy of would save some, on the word
of whoever wrote it there.
"""

from __future__ import annotations

from decimal import Decimal

from orchestrator.engine import inputs, records
from orchestrator.engine.context import Context
from orchestrator.engine.machines import Machines
from orchestrator.engine.reach import through_cuts
from orchestrator.engine.volumes import Volumes
from orchestrator.ledger.rows import RecordRow
from orchestrator.plan import StepRun, makespan, serves
from orchestrator.words.errors import OverBudget


def agree(context: Context, machines: Machines, phase: str, agreed: list[str]) -> list[str]:
    """The steps that the preview took for done, that the volume says are not, and that somebody now agrees to.

    `agreed`: those that somebody did agree to earlier. OverBudget: nobody does, nobody is there to be asked, or the
    machine is not one for them: it was rented to look at what was done, or for less.
    """
    context.control.check()
    _ask_about_strangers(context, machines, phase)
    seen = set(context.spec.seen_done) - set(agreed)
    steps = [s for s in context.phase(phase).steps if s.id in seen and not s.step.ready]
    rows, first = context.machines(phase), context.root(phase)
    if not steps or not first:
        return []
    root = first.name

    def undone() -> list[StepRun]:
        agent = context.agents(root)
        renewed = inputs.changed(context, agent, steps)
        return [s for s in steps if s.id in renewed or records.read(context, agent, agent.workspace, s) is None]

    missing = through_cuts(machines, root, undone)
    if not missing:
        return []
    for step in missing:  # the next preview is to show them
        for key in context.accepted[step.id]:
            context.ledger.records.remove(step=step.id, key=key)
    text = _said(context, missing, sum((row.price_hour for row in rows), Decimal(0)))
    context.event(text)
    if _beyond(context, phase, missing) or not context.control.ask(f"{text}. Do it?"):
        raise OverBudget(text, remedy="run it again: its preview then shows them")
    return [s.id for s in missing]


def _beyond(context: Context, phase: str, missing: list[StepRun]) -> bool:
    """Whether the phase's machine is too small for one of these steps."""
    machine, plan = context.need(phase), context.spec.plan
    return context.provider.rented and not all(serves(machine, plan.phase(s.phase).machine, s) for s in missing)


def _ask_about_strangers(context: Context, machines: Machines, phase: str) -> None:
    """Have somebody look at the records of the volume that the ledger does not know; what is taken is known then.

    With nobody to ask nothing is taken: such a step runs again, as it was previewed.
    """
    need, row = context.phase(phase).phase.volume, context.root(phase)
    volume = Volumes(context).row(need) if need else None
    if volume is None or not row or context.spec.force:
        return
    known = {(row.step, row.key) for row in context.ledger.records.all(volume=volume.name)}
    unknown = [
        step
        for step in context.phase(phase).steps
        if not step.step.ready and not any((step.id, key) in known for key in context.accepted[step.id])
    ]
    root = row.name

    def strangers() -> list[tuple[StepRun, records.DoneRecord]]:
        agent = context.agents(root)
        there = {f"{records.FOLDER}/{name}" for name in agent.names(records.FOLDER)}
        read = [(s, records.read(context, agent, agent.workspace, s)) for s in unknown if records.path(s) in there]
        return [(step, record) for step, record in read if record]

    for step, record in through_cuts(machines, root, strangers):
        text = f"the volume says that {step.id} is done, by {records.whose(record)}, which this ledger does not know"
        context.event(text)
        if context.control.ask(f"{text}. Take it for done?"):
            context.ledger.records.put(RecordRow(volume=volume.name, step=step.id, key=record.key, at=record.at))


def _said(context: Context, missing: list[StepRun], price_hour: Decimal) -> str:
    """What came to light, and what it is expected to take on the machines that are there."""
    hours = Decimal(makespan(missing, context.spec.plan.settings, {})) / 3600
    names = ", ".join(s.id for s in missing)
    return f"the volume shows more work than was previewed: {names}: about {hours:.2f} h, ${hours * price_hour:.2f}"
