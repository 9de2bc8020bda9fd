"""Where the files that are not Python modules lie: in a checkout beside the package, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

from orchestrator.words.errors import GpuplanError

PACKAGE = Path(__file__).resolve().parents[1]


def _folder(name: str, in_checkout: str) -> Path:
    for path in (PACKAGE / "_files" / name, PACKAGE.parent / in_checkout):
        if path.is_dir():
            return path
    raise GpuplanError(
        f"the folder {name} of gpuplan is missing: {PACKAGE.parent / in_checkout}",
        remedy="install gpuplan again, or run it from a whole checkout",
    )


def phases() -> Path:
    """Return the folder of the phase files that gpuplan ships with."""
    return _folder("phases", "phases")


def shipped() -> Path:
    """Return the folder of the plan that gpuplan ships with: its gpuplan.yaml, and phases/."""
    return phases().parent


def configs() -> Path:
    """Return the folder of the configurations that gpuplan ships with."""
    return _folder("configs", "configs")


def remote() -> Path:
    """Return the folder of what runs on the rented machine."""
    return _folder("remote", "remote")


def models() -> Path:
    """Return the folder of the rehearsal's tiny models, laid out as OWNER/NAME/files."""
    return _folder("models", "tests/models")
