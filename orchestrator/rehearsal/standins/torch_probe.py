"""torch-probe GPUS: whether the machine's torch would compute on each of its cards. Emulated: if nothing says no."""

from __future__ import annotations

import sys

from orchestrator.rehearsal.standins import NO_KERNEL
from orchestrator.rehearsal.standins.machine import this_machine


def main(_arguments: list[str]) -> int:
    """Exit code 0: it computes; 1: what torch says is on stderr."""
    machine = this_machine()
    if (machine.folder / NO_KERNEL).exists():
        print(f"{machine.gpu}: CUDA error: no kernel image is available for execution on the device", file=sys.stderr)  # noqa: T201 - a command line
        return 1
    print(f"torch computes on {machine.gpus} GPUs (rehearsal: emulated, nothing was computed)")  # noqa: T201 - a command line
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
