"""One command on one machine, followed to its end through every cut connection."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

from orchestrator.engine.context import Context
from orchestrator.engine.effects import Attempt
from orchestrator.engine.reach import Reached, through_cuts
from orchestrator.engine.step_log import StepLog
from orchestrator.transport.agent import Agent
from orchestrator.transport.job import Job
from orchestrator.transport.job_replies import JobEnd, Sample

LATE_S = 600.0  # beyond a job's time-out: the machine must have said by then that it ended
LAST_LINES_S = 20.0  # for what a stopped job's log still holds
GRACE_S = 10.0  # between SIGTERM and SIGKILL of a job that is stopped


@dataclass(frozen=True, slots=True)
class Start:
    """A job that may have to be started: what it is, with this agent, and whom to tell, once, that it is there.

    `sampled` is told of each of its samples.
    """

    id: str
    job: Callable[[Agent], Job]
    tell: Callable[[], None]
    sampled: Callable[[Sample], None] = lambda _: None


def follow(
    context: Context,
    machines: Reached,
    machine: str,
    job: str | Start,
    log: StepLog,
    *,
    timeout_s: float,
    until: Callable[[], bool] = lambda: False,
) -> Attempt | None:
    """Follow a job, which may take `timeout_s`, to its end; None: `until()` turned true first.

    A job that is no more than an id was started before.

    A cut is invisible: the address is read again and the log goes on from its offset, for as long as the provider
    says that the machine is there. MachineLost: it says otherwise. Raises as control.check does: the job was stopped.
    StepFailed: LATE_S after its time-out the machine still talks as if it ran.
    """
    heard, give_up = 0, context.clock.monotonic() + timeout_s + LATE_S
    start, name = (job, job.id) if isinstance(job, Start) else (None, job)
    sampled = start.sampled if start else None

    def started() -> None:
        nonlocal start
        told, start = start, None
        if told:
            told.tell()

    def sample(found: Sample) -> None:
        nonlocal heard
        heard += 1  # every few seconds, even of a job that prints nothing
        log.sample(found, machine)
        if sampled:
            sampled(found)

    def watch() -> JobEnd | None:
        agent = context.agents(machine)
        limit_s = max(0.0, give_up - context.clock.monotonic())
        if start is None:
            return agent.follow(name, log.offset, log.add, sample, halted, limit_s)
        return agent.run(start.job(agent), log.offset, log.add, sample, started, halted, limit_s)

    def halted() -> bool:
        return until() or context.control.stopping

    end = through_cuts(machines, machine, watch, progress=lambda: log.offset + heard)
    if end is None and context.control.stopping:
        stop(context.agents, machine, name, log)
        context.control.check()
    if end and end.exit == 0:  # what a failed job printed proves nothing
        through_cuts(machines, machine, lambda: log.fetch_stdout(context.agents(machine), name, LATE_S))
    if end:
        log.keep_course(end.course, machine)
    return attempt_of(end) if end else None


def to_its_end(
    context: Context, machines: Reached, machine: str, job: str | Start, log: StepLog, *, timeout_s: float
) -> Attempt:
    """Follow a job that nothing but a stop of the run, which raises, ends before its time."""
    end = follow(context, machines, machine, job, log, timeout_s=timeout_s)
    assert end, "it goes on until its end"
    return end


def stop(agents: Callable[[str], Agent], machine: str, job: str, log: StepLog) -> Attempt | None:
    """Stop a job, bring its last lines home, and say how it ended, which may be before it was stopped.

    None: nobody knows, for the machine does not answer, answers nonsense, or has no such job. It is not waited for.
    """
    end = None
    with contextlib.suppress(Exception):  # whatever the machine says: why the job is stopped is what counts
        agent = agents(machine)
        ended = agent.stop(job, GRACE_S)
        end = attempt_of(ended)
        agent.follow(job, log.offset, on_log=log.add, stop=lambda: False, timeout_s=LAST_LINES_S)
        log.fetch_stdout(agent, job, LAST_LINES_S)
        log.keep_course(ended.course, machine)
    return end


def attempt_of(end: JobEnd) -> Attempt:
    """How a try ended, from what the agent says. What the agent samples is taken from nobody else."""
    peaks = asdict(end.peaks)
    return Attempt(
        exit=end.exit,
        oom=end.oom,
        timed_out=end.timed_out,
        stopped=end.stopped,
        lost=end.lost,
        seconds=end.seconds,
        peaks={name: value for name, value in peaks.items() if value is not None},
        figures={name: figure for name, figure in end.figures.items() if name not in peaks},
        cards=end.cards,
    )
