"""Downloads that hang: nothing comes, nothing fails, and the machine is paid for until the step's time-out."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.engine import jobs
from orchestrator.engine.context import Context
from orchestrator.engine.effects import Attempt
from orchestrator.engine.reach import Reached, through_cuts
from orchestrator.engine.step_log import StepLog
from orchestrator.transport.job_replies import Sample
from orchestrator.words.waiting import Clock

STALL_S = 300.0  # without bytes, in the cloud's time
LEAST_BYTES = 1 << 20  # less is what a program says of its progress, and its signs of life
WITHOUT_XET = {"HF_HUB_DISABLE_XET": "1"}  # the hub's client over plain HTTP, whose reads have a time-out
TERMINATED = 143


class Stall:
    """Whether a job has stopped to move bytes, by its samples; a machine that does not tell them never has."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._limit_s = clock, clock.real(STALL_S)
        self._bytes, self._since = -LEAST_BYTES, clock.monotonic()
        self.is_there = False

    def hear(self, sample: Sample) -> None:
        """Take a sample into account. While the machine is not reached none comes, and nothing is concluded."""
        if (moved := sample.moved_bytes) is None:
            return
        if moved - self._bytes >= LEAST_BYTES:
            self._bytes, self._since = moved, self._clock.monotonic()
        self.is_there = self._clock.monotonic() - self._since >= self._limit_s


def followed(
    context: Context, machines: Reached, machine: str, job: jobs.Start, log: StepLog, *, timeout_s: float
) -> Attempt:
    """Follow a download to its end as `jobs.follow` does, or stop it once it has stalled."""
    stall = Stall(context.clock)
    end = jobs.follow(
        context, machines, machine, replace(job, sampled=stall.hear), log,
        timeout_s=timeout_s, until=lambda: stall.is_there,
    )  # fmt: skip
    if end:
        return end
    # One that went on beside its next try would spoil it: it is stopped, whatever that takes.
    through_cuts(machines, machine, lambda: context.agents(machine).stop(job.id, jobs.GRACE_S))
    stopped = jobs.stop(context.agents, machine, job.id, log) or Attempt(exit=TERMINATED, stopped=True)
    return stopped if stopped.succeeded else replace(stopped, stalled=True)
