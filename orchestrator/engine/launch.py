"""What a step's job is started with: its name, its command, its environment and its secrets."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.engine import sources, write_up
from orchestrator.engine.context import Context
from orchestrator.ledger.rows import MachineRow
from orchestrator.plan import StepRun
from orchestrator.transport import commands
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import StepFailed
from orchestrator.words.secret import Secret
from orchestrator.words.spec import plain

WRITE_UP = ".gpuplan/write-up.md"
HUB_COMMIT = "GPUPLAN_HUB_COMMIT"  # what a download's revision was when the step began
TOKEN = "GPUPLAN_TOKEN"  # noqa: S105  the name of the variable by which ranks of one run know each other


def job_name(context: Context, phase: str, run: StepRun, attempt: int, number: int) -> str:
    """The job of the step's try of that number, the same after a crash; each node appends its own number."""
    return f"{plain(context.run)}.{plain(phase)}.{run.id.replace('/', '.')}.{attempt}.{number}"


def shell_text(context: Context, agent: Agent, run: StepRun, command: str) -> str:
    """What the shell runs: the step's own command, or that of a built-in."""
    if run.step.builtin == "overlay":
        return commands.lay_code().text
    if run.step.builtin == "report":
        page = write_up.render(context, run.step, sources.gather(context, agent))
        agent.write(WRITE_UP, page.text)
        said = f"{page.figures} measured figures"
        return commands.copy(f"{agent.workspace}/{WRITE_UP}", run.step.creates[0], said).text
    return command


def environment(context: Context, rows: Sequence[MachineRow], phase: str, run: StepRun, machine: str) -> dict[str, str]:
    """The step's environment on one of the machines that it sees as its phase's nodes."""
    names = [row.name for row in rows]
    if len(rows) > 1 and (lacking := next((row.name for row in rows if not row.private_ip), "")):
        raise StepFailed(f"{lacking} has no private address: the nodes do not reach each other")
    # Without a private network a phase has one node, and what it binds is its own loopback.
    addresses = [row.private_ip or "127.0.0.1" for row in rows]
    own = {
        "GPUPLAN_RUN": context.run,
        "GPUPLAN_PHASE": phase,
        "GPUPLAN_ROOT_IP": addresses[0],
        "GPUPLAN_PRIVATE_IP": addresses[names.index(machine)],
        "GPUPLAN_NODE_RANK": str(names.index(machine)),
        "GPUPLAN_NODES": str(len(names)),
        "GPUPLAN_WORKERS": ",".join(addresses[1:]),
    }
    return {**context.world_env, **run.env, **own}


def secrets_of(context: Context, run: StepRun) -> dict[str, Secret]:
    """Those of the run's secrets that the step may see."""
    names = [n for n in (*run.secrets, TOKEN) if n in context.secrets]
    return {name: context.secrets[name] for name in names}
