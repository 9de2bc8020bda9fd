"""What a job uses: GPU memory and utilisation from nvidia-smi, free disk, bytes moved, kills for want of memory."""

from __future__ import annotations

import os
from typing import Any, Iterable

GPU_QUERY = [
    "nvidia-smi",
    "--query-gpu=index,name,memory.used,memory.total,utilization.gpu",
    "--format=csv,noheader,nounits",
]
EVERY_S = 5.0
IDLE_MIB = 1024  # memory that a driver may hold for itself: more of it is somebody's
LONGEST_QUERY_S = 10.0


def parse_gpus(text: str) -> list[dict[str, Any]]:
    """The GPUs that nvidia-smi reports; what it cannot tell ([N/A]) is left out."""
    found = []
    for line in text.splitlines():
        cells = line.split(",")
        if len(cells) == 5 and _number(cells[0]) is not None:
            gpu: dict[str, Any] = {"index": _number(cells[0]), "name": cells[1].strip()}
            numbers = zip(("memory_used_mib", "memory_total_mib", "utilisation"), map(_number, cells[2:]))
            found.append({**gpu, **{name: number for name, number in numbers if number is not None}})
    return found


def at_work(gpu: dict[str, Any]) -> bool:
    """Whether a GPU computes, or, where the driver does not tell that, holds what somebody put there."""
    if "utilisation" in gpu:
        return bool(gpu["utilisation"] > 0)
    return bool(gpu.get("memory_used_mib", 0) > IDLE_MIB)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def disk_free_mib(path: str) -> int:
    """Free space for the user on the file system of `path`, in MiB."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize >> 20


class Moved:
    """How many bytes a job's processes have read and written, counted at each look; it never goes back."""

    def __init__(self) -> None:
        self._total = 0
        self._seen: dict[int, int] = {}

    def look(self, pids: Iterable[int]) -> int | None:
        """The bytes so far, those of processes that have ended between two looks left out. None: nobody tells."""
        now = {pid: count for pid in pids for count in [_moved_by(pid)] if count is not None}
        for pid, count in now.items():
            before = self._seen.get(pid, 0)
            self._total += count - before if count >= before else count  # less: another process of that id
        told, self._seen = bool(now or self._seen), now
        return self._total if told else None


def _moved_by(pid: int) -> int | None:
    """What one process has read and written by now, from files, pipes and caches too."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            counts = dict(line.split(": ") for line in file)
        return int(counts["rchar"]) + int(counts["wchar"])
    except (OSError, KeyError, ValueError):
        return None


def next_at(age_s: float) -> float:
    """The age at which a job is to be sampled after a sample at `age_s`: soon at first, short jobs are seen too."""
    return 1.0 if age_s < 1.0 else (age_s // EVERY_S + 1) * EVERY_S


class Peaks:
    """The extremes of all samples so far, and the GPUs that were seen at work in one of them.

    A key is missing as long as nothing was seen of it.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self._at_work: dict[float, str] = {}  # index -> name

    def add(self, sample: dict[str, Any]) -> None:
        """Take a sample into account."""
        for gpu in sample.get("gpus", []):
            if gpu.get("memory_total_mib") and "memory_used_mib" in gpu:
                self._highest("gpu_memory_percent", 100.0 * gpu["memory_used_mib"] / gpu["memory_total_mib"])
                self._highest("gpu_memory_mib", gpu["memory_used_mib"])
            if "utilisation" in gpu:
                self._highest("gpu_utilisation", gpu["utilisation"])
            if at_work(gpu):
                self._at_work[gpu["index"]] = str(gpu.get("name", ""))
            self.values["gpus_at_work"] = float(len(self._at_work))
        free = sample["disk_free_mib"]
        self.values["disk_free_mib_min"] = min(self.values.get("disk_free_mib_min", free), free)

    @property
    def cards(self) -> list[str]:
        """The kinds of GPU that were seen at work."""
        return sorted(set(self._at_work.values()))

    def _highest(self, name: str, value: float) -> None:
        self.values[name] = round(max(self.values.get(name, value), value), 2)


def oom_kills() -> int:
    """How often the kernel has killed a process of our control group for want of memory; 0 where it cannot be read."""
    for path in _oom_files():
        try:
            with open(path, encoding="ascii") as file:
                counts = dict(line.split() for line in file if len(line.split()) == 2)
            return int(counts["oom_kill"])
        except (OSError, KeyError, ValueError):
            continue
    return 0


def _oom_files() -> list[str]:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            own = [line.rstrip("\n").split(":", 2)[2] for line in file if line.startswith("0::")]
    except OSError:
        own = []
    version2 = [f"/sys/fs/cgroup{group}/memory.events" for group in own]
    return [*version2, "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]
