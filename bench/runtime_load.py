"""How busy the computer is with other work than what is measured."""

import os
from pathlib import Path

QUIET = 0.5  # a load above it, of which our own work is taken off, marks a row


def busy_seconds() -> float:
    """Seconds of all processors that were at work, since the system's start."""
    first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    user, nice, system, _, _, interrupt, soft = (int(word) for word in first[1:8])
    return (user + nice + system + interrupt + soft) / os.sysconf("SC_CLK_TCK")


def load_cell(load: float) -> str:
    """A table's cell."""
    return f"{load:.1f}{' (busy)' if load > QUIET else ''}"
