"""What an emulated image brings that is another thing than its name says: packages in front of this computer's own."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

FOLDER = "image/site-packages"  # in a machine's folder; first in its Python's path
OLD_TORCH = "2.4.1"


def bring_old_torch(machine: Path) -> None:
    """Put a torch there that is known by its version and computes nothing."""
    packages = machine / FOLDER
    info = packages / f"torch-{OLD_TORCH}.dist-info"
    info.mkdir(parents=True)
    (packages / "torch").mkdir()
    (packages / "torch" / "__init__.py").write_text(f'__version__ = "{OLD_TORCH}"\n')
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {OLD_TORCH}\n")


def others(name: str) -> list[metadata.Distribution]:
    """Packages of that name behind the first one that is found: what pip would install stands there."""
    return list(metadata.distributions(name=name))[1:]


def replace(name: str) -> None:
    """Install what stands behind it in place of the image's package of that name."""
    first = next(iter(metadata.distributions(name=name)))
    place = Path(str(first.locate_file("")))
    if place.parts[-2:] == tuple(FOLDER.split("/")):
        shutil.rmtree(place / name, ignore_errors=True)
        shutil.rmtree(place / f"{name}-{first.version}.dist-info", ignore_errors=True)
