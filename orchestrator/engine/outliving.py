"""Jobs that have outlived their machine's silence: they are gone on with, and do not begin anew beside themselves."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.engine.context import Context
from orchestrator.engine.reach import Reached, through_cuts
from orchestrator.transport.job_replies import JobInfo


def job(context: Context, machines: Reached, phase: str, machine: str, mine: str) -> str:
    """The job of a step's try that is called `mine`, where nothing of an earlier attempt's is left to go on with.

    What a reboot has ended is its machine's failure, and no try of the step's. With several nodes nothing goes on.
    """
    row = context.ledger.machines.get(name=machine)
    if row.rebooted_at is None or context.phase(phase).phase.machine.nodes > 1:
        return mine
    return newest(through_cuts(machines, machine, lambda: context.agents(machine).jobs()), mine) or mine


def newest(jobs: Iterable[JobInfo], mine: str) -> str:
    """The newest of a step's jobs that runs, or has come to a good end: of any try of any attempt; "": there is none.

    `mine` is one of its tries: STEP.ATTEMPT.NUMBER. Its jobs have a node's number behind that.
    """
    step, found = mine.rsplit(".", 2)[0], list[tuple[int, int]]()
    for one in jobs:
        name, *numbers = one.job.rsplit(".", 3)
        good = one.end is None or (one.end.exit == 0 and not one.end.lost and not one.end.timed_out)
        if good and name == step and all(number.isdigit() for number in numbers):
            found.append((int(numbers[0]), int(numbers[1])))
    return "{}.{}.{}".format(step, *max(found)) if found else ""
