"""Programs that stand in for what only a rented machine has. First in an emulated machine's PATH."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orchestrator

if TYPE_CHECKING:
    from orchestrator.rehearsal.faults import Switchboard

CUDA_FAULT = "cuda-fault.json"  # in a machine's folder: which GPUs fail, and until when
NO_KERNEL = "torch-no-kernel"  # there, if its torch cannot compute on its cards
PROGRAMS = {
    "nvidia-smi": "nvidia_smi",
    "cuda-probe": "cuda_probe",
    "torch-probe": "torch_probe",
    "pip": "pip",
    "pip3": "pip",
    "df": "df",
}
NEEDS_SITE = {"pip", "pip3"}  # looks for what is installed; the others start faster without
PIP_MODULE = """import sys

sys.path.append({root!r})
from orchestrator.rehearsal.standins.pip import main

sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class CudaFault:
    """GPUs that nvidia-smi lists and CUDA cannot use. `gpus` None: all; `lasts_s` None: for ever."""

    gpus: tuple[int, ...] | None = None
    lasts_s: float | None = None

    def write(self, file: Path) -> None:
        """Switch the fault on, from now, for the machine in whose folder the file is; removing the file ends it."""
        until = None if self.lasts_s is None else time.time() + self.lasts_s
        file.write_text(json.dumps({"gpus": self.gpus, "until": until}))


def armed_cuda_fault(faults: Switchboard, time_scale: float) -> CudaFault | None:
    """The fault that the next GPU machine is to have; it is used up."""
    if (seconds := faults.take_anywhere("cuda-late")) is not None:
        return CudaFault(lasts_s=float(seconds) * time_scale)
    if (gpu := faults.take_anywhere("cuda-missing")) is not None:
        return CudaFault(gpus=(int(gpu),))
    return CudaFault() if faults.take("cuda-never") else None


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


def install_pip_module(folder: Path) -> str:
    """Write the stand-in as the module `pip` into `folder`; return what a machine's PYTHONPATH is then.

    So every Python of the machine has this pip, as it would have the image's: `python -m pip`, in a venv too.
    """
    package = folder / "pip"
    package.mkdir(parents=True, exist_ok=True)
    root = str(Path(orchestrator.__file__).resolve().parent.parent)
    replace_file(package / "__init__.py", "", 0o644)
    replace_file(package / "__main__.py", PIP_MODULE.format(root=root), 0o644)
    return str(folder)


def _script(file: Path, line: str) -> None:
    replace_file(file, f"#!/bin/sh\n{line}\n", 0o755)


def replace_file(file: Path, text: str, mode: int) -> None:
    """Replace the file at once: a machine of the same cloud may be reading it."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(mode)
    os.replace(new, file)  # noqa: PTH105 - atomic on every system
