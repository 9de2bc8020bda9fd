"""nvidia-smi of an emulated machine: the GPUs that were rented, used by the machine's real processes.

Memory used is the resident memory of the machine's processes, on the GPU that their CUDA_VISIBLE_DEVICES names first
(GPU 0 without one). Utilisation is the processor time that they took of all cores since each began.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.rehearsal import processes
from orchestrator.rehearsal.standins.machine import Machine, this_machine

DRIVER = "rehearsal"
VISIBLE = re.compile(rb"\0CUDA_VISIBLE_DEVICES=(\d+)")


@dataclass(frozen=True)
class Gpu:
    """One GPU as the tool shows it."""

    index: int
    name: str
    total_mib: int
    used_mib: int
    utilisation: int  # percent

    @property
    def uuid(self) -> str:
        """An id in the vendor's form that cannot be taken for a real one."""
        return f"GPU-00000000-0000-0000-0000-{self.index:012d}"


FIELDS: dict[str, tuple[str, Callable[[Gpu], str], str]] = {  # field: heading's unit, value, unit
    "index": ("", lambda gpu: str(gpu.index), ""),
    "name": ("", lambda gpu: gpu.name, ""),
    "gpu_name": ("", lambda gpu: gpu.name, ""),
    "uuid": ("", lambda gpu: gpu.uuid, ""),
    "driver_version": ("", lambda _: DRIVER, ""),
    "memory.total": (" [MiB]", lambda gpu: str(gpu.total_mib), " MiB"),
    "memory.used": (" [MiB]", lambda gpu: str(gpu.used_mib), " MiB"),
    "memory.free": (" [MiB]", lambda gpu: str(gpu.total_mib - gpu.used_mib), " MiB"),
    "utilization.gpu": (" [%]", lambda gpu: str(gpu.utilisation), " %"),
}


def gpus(machine: Machine) -> list[Gpu]:
    """Return the machine's GPUs as they are now."""
    used, busy = [0] * machine.gpus, [0.0] * machine.gpus
    for process in processes.table().values() if machine.gpus else ():
        if processes.marked(machine.folder)(process) and process.pid != os.getpid():
            visible = VISIBLE.search(b"\0" + process.environ)
            index = int(visible[1]) if visible and int(visible[1]) < machine.gpus else 0
            memory, share = _resources(process.pid)
            used[index] += memory
            busy[index] += share
    return [
        Gpu(i, machine.gpu, machine.gpu_memory_mib, min(used[i] >> 20, machine.gpu_memory_mib), min(int(busy[i]), 100))
        for i in range(machine.gpus)
    ]


def _resources(pid: int) -> tuple[int, float]:
    """Resident bytes, and percent of all cores since the process began; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b") ")[2].split()
    except (OSError, IndexError):
        return 0, 0.0
    tick = os.sysconf("SC_CLK_TCK")
    ran = (int(fields[11]) + int(fields[12])) / tick
    age = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) - int(fields[19]) / tick
    return resident, 100 * ran / max(age, 0.1) / (os.cpu_count() or 1)


def query(found: list[Gpu], fields: list[str], options: list[str]) -> str:
    """Return the CSV that --query-gpu asks for. SystemExit names a field that is not known."""
    unknown = [field for field in fields if field not in FIELDS]
    if unknown:
        sys.exit(f'Field "{unknown[0]}" is not a valid field to query (rehearsal: {", ".join(FIELDS)}).')
    lines = [] if "noheader" in options else [", ".join(field + FIELDS[field][0] for field in fields)]
    for gpu in found:
        values = (FIELDS[field][1](gpu) + ("" if "nounits" in options else FIELDS[field][2]) for field in fields)
        lines.append(", ".join(values))
    return "\n".join(lines)


def table(machine: Machine, found: list[Gpu]) -> str:
    """Return the overview that the bare command shows."""
    rule = "+" + "-" * 78 + "+"
    rows = [
        f" {gpu.index:>3}  {gpu.name:<36} {gpu.used_mib:>8} MiB / {gpu.total_mib:>7} MiB {gpu.utilisation:>5} %"
        for gpu in found
    ]
    head = [f" NVIDIA-SMI (rehearsal: emulated GPUs of {machine.name})", " GPU  Name" + " " * 43 + "Memory      Util"]
    return "\n".join([rule, *(f"|{row:<78}|" for row in head), rule, *(f"|{row:<78}|" for row in rows), rule])


def main(arguments: list[str]) -> int:
    """Exit code 0; 9 when the machine has no GPU, as the real tool says it; 1 or 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="nvidia-smi", description="rehearsal: emulated GPUs")
    parser.add_argument("--query-gpu", default="")
    parser.add_argument("--format", default="csv")
    parser.add_argument("-L", "--list-gpus", action="store_true")
    parser.add_argument("-i", "--id", type=int)
    options = parser.parse_args(arguments)
    machine = this_machine()
    found = [gpu for gpu in gpus(machine) if options.id in {None, gpu.index}]
    if not found:
        print("No devices were found (rehearsal)")  # noqa: T201 - a command line
        return 9
    if options.list_gpus:
        text = "\n".join(f"GPU {gpu.index}: {gpu.name} (UUID: {gpu.uuid}) (rehearsal)" for gpu in found)
    elif options.query_gpu:
        text = query(found, [field.strip() for field in options.query_gpu.split(",")], options.format.split(","))
    else:
        text = table(machine, found)
    print(text)  # noqa: T201 - a command line
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
