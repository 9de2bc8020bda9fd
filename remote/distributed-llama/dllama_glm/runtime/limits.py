"""What a container grants this process, read from cgroups (v1 and v2): share of the processors, memory."""

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def processor_quota() -> float | None:
    """How many processors' time the process may use, the tightest limit counting; None without a limit."""
    found = []
    for folder in _folders("cpu"):
        words = _read(folder / "cpu.max").split()
        if not words:  # version 1
            words = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def memory_left() -> int | None:
    """How many bytes the process's containers may still take; None without a limit."""
    found = []
    for folder in _folders("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            words = [_read(folder / limit), _read(folder / used)]
            if all(word.isdecimal() for word in words):
                found.append(max(0, int(words[0]) - int(words[1]) + _reclaimable(folder)))
    return min(found, default=None)


def _folders(controller: str) -> Iterator[Path]:
    """The folders of the process's groups and of all above them, as far as they can be seen from here."""
    for line in _read(OWN).splitlines():
        number, names, place = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not names:
            base = CGROUPS
        elif controller in names.split(","):
            base = CGROUPS / names if (CGROUPS / names).is_dir() else CGROUPS / controller
        else:
            continue
        folder = base / place.lstrip("/")
        yield from (path for path in (folder, *folder.parents) if path == base or base in path.parents)


def _reclaimable(folder: Path) -> int:
    """Bytes of files that the system keeps in memory for the group, and gives up for other use."""
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"} and value.isdecimal():
            return int(value)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):  # no such limit, or not for us to see
        return ""
