"""What a stand-in program knows of the emulated machine that it runs on."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from orchestrator.rehearsal.processes import MARK


@dataclass(frozen=True)
class Machine:
    """The machine as it was rented."""

    folder: Path
    name: str
    gpu: str
    gpus: int
    gpu_memory_mib: int
    disk_kib: int | None = None  # what its disk is to show; None: what this computer has


def this_machine() -> Machine:
    """Return the machine of the running program. SystemExit with one line when it runs on none."""
    folder = os.environ.get(MARK, "")
    try:
        facts = json.loads((Path(folder) / "machine.json").read_text())
    except (OSError, ValueError):
        sys.exit(f"{Path(sys.argv[0]).stem}: this stand-in runs only on a rehearsal's emulated machines")
    return Machine(
        Path(folder), facts["name"], facts["gpu"], facts["gpus"], facts["gpu_memory_mib"], facts.get("disk_kib")
    )
