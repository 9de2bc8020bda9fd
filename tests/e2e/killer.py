"""gpuplan that kills itself with SIGKILL at a recorded effect: `killer.py [after:]NAME[#NTH] ARGS...`."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from orchestrator.cli import main
from orchestrator.engine import durable

where, sys.argv = sys.argv[1], ["gpuplan", *sys.argv[2:]]
after = where.startswith("after:")
name, _, nth = where.removeprefix("after:").partition("#")
left = [int(nth or 1)]
record = durable._Workflows.record


def killing(self: Any, effect: str, body: Callable[[], Any], kind: Any = Any) -> Any:
    """Die in the middle of the effect (before its record is written), or right after it was recorded."""
    if effect.partition(" ")[0] != name:
        return record(self, effect, body, kind)
    left[0] -= 1
    if left[0]:
        return record(self, effect, body, kind)
    if after:
        record(self, effect, body, kind)
        os.kill(os.getpid(), signal.SIGKILL)

    def dying() -> None:
        try:
            body()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    return record(self, effect, dying, kind)


durable._Workflows.record = killing
main()
