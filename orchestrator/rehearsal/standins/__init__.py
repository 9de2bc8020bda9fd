"""Programs that stand in for what only a rented machine has. First in an emulated machine's PATH."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import orchestrator

CUDA_FAULT = "cuda-fault.json"  # in a machine's folder: which GPUs fail, and until when
PROGRAMS = {"nvidia-smi": "nvidia_smi", "cuda-probe": "cuda_probe", "pip": "pip", "pip3": "pip"}
NEEDS_SITE = {"pip", "pip3"}  # looks for what is installed; the others start faster without


@dataclass(frozen=True)
class CudaFault:
    """GPUs that nvidia-smi lists and CUDA cannot use. `gpus` None: all; `lasts_s` None: for ever."""

    gpus: tuple[int, ...] | None = None
    lasts_s: float | None = None

    def write(self, file: Path) -> None:
        """Switch the fault on, from now, for the machine in whose folder the file is; removing the file ends it."""
        until = None if self.lasts_s is None else time.time() + self.lasts_s
        file.write_text(json.dumps({"gpus": self.gpus, "until": until}))


def cuda_fails(file: Path, gpu: int) -> bool:
    """Whether the fault in that file, if there is one, concerns this GPU now."""
    try:
        fault = json.loads(file.read_text())
    except FileNotFoundError:
        return False
    concerned = fault["gpus"] is None or gpu in fault["gpus"]
    return concerned and (fault["until"] is None or time.time() < fault["until"])


def install(folder: Path) -> str:
    """Write one small script a program into `folder`; return the folders that come first in a machine's PATH.

    After the stand-ins comes the running interpreter's own folder, so that `python` and `hf` are the controller's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(orchestrator.__file__).resolve().parent.parent
    for program, module in PROGRAMS.items():
        flags = "-P -s" if program in NEEDS_SITE else "-P -s -S"
        _script(
            folder / program,
            f"PYTHONPATH={shlex.quote(str(root))} exec {shlex.quote(sys.executable)} {flags}"
            f' -m orchestrator.rehearsal.standins.{module} "$@"',
        )
    scripts = Path(sys.executable).parent
    for name in ("python", "python3"):
        if not (scripts / name).exists():
            _script(folder / name, f'exec {shlex.quote(sys.executable)} "$@"')
    return f"{folder}:{scripts}"


def _script(file: Path, line: str) -> None:
    """Replace the file at once: a machine of the same cloud may be starting it."""
    new = file.with_suffix(".new")
    new.write_text(f"#!/bin/sh\n{line}\n")
    new.chmod(0o755)
    os.replace(new, file)  # noqa: PTH105 - atomic on every system
