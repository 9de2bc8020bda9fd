"""gpuplan that kills itself with SIGKILL at a recorded effect: called with [after:]NAME[#NTH] ARGS..."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial

from orchestrator.engine import durable


def main() -> None:
    """Die in the middle of the effect (before its record is written), or right after it was recorded."""
    from orchestrator.cli import main as gpuplan

    where, sys.argv = sys.argv[1], ["gpuplan", *sys.argv[2:]]
    moment = "after" if where.startswith("after:") else "before"
    name, _, nth = where.removeprefix("after:").partition("#")
    left = [int(nth or 1)]

    def kill(_workflow: str, effect: str, at: str) -> None:
        if effect.partition(" ")[0] == name and at == moment:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    durable.DurableRun = partial(durable.DurableRun, trigger=kill)  # type: ignore[misc, assignment]  # it is only called
    gpuplan()
