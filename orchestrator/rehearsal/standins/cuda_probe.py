"""cuda-probe INDEX: whether a CUDA call on that GPU would succeed. On an emulated machine: whether it was rented."""

from __future__ import annotations

import sys

from orchestrator.rehearsal.standins import CUDA_FAULT, cuda_fails
from orchestrator.rehearsal.standins.machine import this_machine


def main(arguments: list[str]) -> int:
    """Exit code 0: the GPU works; 1: CUDA's error is on stderr; 2: a wrong call."""
    if len(arguments) != 1 or not arguments[0].isdigit():
        print("usage: cuda-probe INDEX", file=sys.stderr)  # noqa: T201 - a command line
        return 2
    index, machine = int(arguments[0]), this_machine()
    if index >= machine.gpus:
        return _failed(f"cuDeviceGet({index}): error 101: invalid device ordinal ({machine.gpus} GPUs)")
    if cuda_fails(machine.folder / CUDA_FAULT, index):
        return _failed(f"cuInit for GPU {index}: error 802: system not yet initialized")
    print(f"GPU {index}: works (rehearsal: emulated, no CUDA call was made)")  # noqa: T201 - a command line
    return 0


def _failed(reason: str) -> int:
    print(f"cuda-probe: {reason} (rehearsal: emulated)", file=sys.stderr)  # noqa: T201 - a command line
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
