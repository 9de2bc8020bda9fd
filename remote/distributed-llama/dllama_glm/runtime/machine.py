"""What this machine is: cores, processor, memory used."""

import io
import os
import platform
import re
import resource
import socket
import sys
from pathlib import Path

from dllama_glm.runtime.limits import memory_left, processor_quota


def cores() -> int:
    """How many cores this process may use: those it may run on, and no more than its container's quota of time."""
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = processor_quota()
    return visible if quota is None else max(1, min(visible, int(quota)))


def granted() -> str:
    """What to add to the processor's name where a container may use only a share of it; nothing elsewhere."""
    quota = processor_quota()
    return "" if quota is None else f", a quota of {quota:g} of its cores"


def available_memory() -> int:
    """How many bytes this process may still take: what the system has to give, and what its container grants."""
    given = sys.maxsize
    info = Path("/proc/meminfo")
    if info.exists():
        found = re.search(r"^MemAvailable:\s+(\d+) kB", info.read_text(encoding="ascii"), re.MULTILINE)
        given = int(found[1]) << 10 if found else given
    elif sys.platform != "win32":
        given = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    left = memory_left()
    return given if left is None else min(given, left)


def processor() -> str:
    """Return the processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def host_id() -> str:
    """Return what tells this host from others: processes with the same value share its cores."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text(encoding="ascii").strip() if boot.exists() else platform.node()


def host_name() -> str:
    """Return what this host is called, with its number among the plan's nodes: two of those may share all else."""
    node = os.environ.get("GPUPLAN_NODE_RANK", "")
    return f"{socket.gethostname()}, node {node}" if node else socket.gethostname()


def peak_memory_mib() -> int:
    """Return the largest resident memory of this process so far, mapped file pages included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10


def has_nvidia_gpu() -> bool:
    """Whether a GPU's driver is loaded (told without importing torch)."""
    return Path("/dev/nvidiactl").exists()


def note(text: str) -> None:
    """Tell the user something that is no error; stdout stays free for the result."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def print_in_utf8() -> None:
    """Make stdout UTF-8, whatever the locale says; what cannot be encoded becomes "?"."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")


def threads_from(asked: int | None, ranks_on_host: int = 1) -> int:
    """Return how many threads to use: what was asked for, at most the cores; by default a fair share of the cores."""
    available = cores()
    if asked is None:
        return max(1, available // ranks_on_host)
    if asked > available:
        note(f"--nthreads {asked} is more than the {available} cores here: using {available}.")
    return min(asked, available)
