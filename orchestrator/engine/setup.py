"""`setup` of a plan: run once on every machine of a run, after the code arrived and before the machine's first step."""

from __future__ import annotations

from orchestrator.engine import jobs
from orchestrator.engine.context import Context
from orchestrator.engine.reach import Reached
from orchestrator.engine.step_log import StepLog
from orchestrator.transport.agent import Agent
from orchestrator.transport.job import Job
from orchestrator.words.errors import MachineLost, StepFailed
from orchestrator.words.spec import plain

NAME = "@setup"  # of its log, beside the steps': none of them can be called so
LONGEST_S = 3600.0


def job_name(context: Context) -> str:
    """The job on each machine: it is the machine's, not a phase's, so that a machine that is taken over has it."""
    return f"{plain(context.run)}.setup"


def has_begun(context: Context, agent: Agent) -> bool:
    """Whether it was started on that machine: what lies in the code's folder may be its work."""
    return bool(context.spec.plan.settings.setup) and any(job.job == job_name(context) for job in agent.jobs())


def run(context: Context, machines: Reached, phase: str, machine: str, node: int) -> None:
    """Bring a machine's setup to its end. StepFailed: it ended badly; MachineLost."""
    command = context.spec.plan.settings.setup
    if not command or _was_taken_over(context, phase, machine):
        return
    log = StepLog(context, phase, NAME, node)
    log.restart(f"{job_name(context)} {machine}")
    start = jobs.Start(
        job_name(context),
        lambda agent: _job(context, agent, phase, command),
        lambda: context.event(f"{machine}: setup begins: {command}", minor=True),
    )
    end = jobs.to_its_end(context, machines, machine, start, log, timeout_s=LONGEST_S)
    if end.lost and context.ledger.machines.get(name=machine).rebooted_at:  # half of it is there: nobody knows which
        why = "its setup was cut short by the reboot"
        machines.distrust(machine, why)
        raise MachineLost(f"{machine}: {why}")
    if not end.succeeded:
        how = f"took longer than {LONGEST_S:.0f} s" if end.timed_out else f"ended with exit code {end.exit}"
        raise StepFailed(
            f"setup {how} on {machine}\n{log.last_lines()}".rstrip(),
            remedy=f"gpuplan logs --step {NAME} shows all of it; the plan's `setup` is run in its code's folder",
        )
    context.event(f"{machine}: setup took {end.seconds:.1f} s", minor=True)


def _was_taken_over(context: Context, phase: str, machine: str) -> bool:
    """Whether the phase that asked for the machine has set it up."""
    return context.ledger.machines.get(name=machine).phase != phase


def _job(context: Context, agent: Agent, phase: str, command: str) -> Job:
    """It gets none of the secrets: what needs one is a step."""
    code = context.code.hash
    return Job(
        id=job_name(context),
        command=command,
        cwd=agent.code(code, kept=True) if code else agent.workspace,
        timeout_s=LONGEST_S,
        env={**context.world_env, "GPUPLAN_RUN": context.run, "GPUPLAN_PHASE": phase},
        code=code,
    )
