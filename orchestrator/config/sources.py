"""Which files a plan is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.document import Mapping, read_file
from orchestrator.config.problems import Problems
from orchestrator.words import files
from orchestrator.words.errors import UsageError

PROJECT_FILE = "gpuplan.yaml"
DEFAULT = "default.yaml"
NOTES = "plan-notes.yaml"
_NOT_PHASES = {PROJECT_FILE, DEFAULT, NOTES}


@dataclass(frozen=True)
class Sources:
    """The files of one plan. `settings` in rising precedence."""

    name: str
    folder: Path | None  # None: the shipped plan
    phases: tuple[Path, ...]
    settings: tuple[Path, ...]
    notes: Path | None


def find_plan(here: Path) -> Path | None:
    """Return `here` when it holds a plan (phases/, or gpuplan.yaml and phase files); None: the shipped one is meant."""
    phases = here / "phases"
    if phases.is_dir() and phases.samefile(files.phases()):
        return None  # gpuplan's own checkout
    folder = phases if phases.is_dir() else here if (here / PROJECT_FILE).is_file() else None
    return here if folder and any(looks_like_phase(path) for path in phase_files(folder)) else None


def looks_like_phase(path: Path) -> bool:
    """Whether it is YAML with steps in it."""
    node = read_file(path, Problems())
    return isinstance(node, Mapping) and node.get("steps") is not None


def phase_files(folder: Path) -> tuple[Path, ...]:
    """Return the folder's phase files in natural order: day2 before day10."""
    found = [p for p in folder.glob("*.y*ml") if p.suffix in {".yaml", ".yml"} and p.name not in _NOT_PHASES]
    return tuple(sorted(found, key=_natural))


def find(folder: Path | None, config: Path | None) -> Sources:
    """Return what `folder` consists of; None: the plan in this folder, else the shipped one. UsageError: none is there.

    The project file of the folder where gpuplan is run comes last, and so wins.
    """
    shipped = files.configs()
    here = [Path(PROJECT_FILE)] if Path(PROJECT_FILE).is_file() else []
    folder = folder or find_plan(Path.cwd())
    top: Path | None
    if folder is None:
        project = here
        top, phases = shipped.parent, files.phases()
        name, notes = "shipped", shipped / NOTES
    else:
        if not folder.is_dir():
            raise UsageError(
                f"there is no folder {folder}",
                remedy="name a folder with phase files",
            )
        phases = folder / "phases" if (folder / "phases").is_dir() else folder
        top = folder.parent if folder.name == "phases" else folder
        project = [p for p in (top / "configs" / DEFAULT, top / PROJECT_FILE) if p.is_file()]
        project += [p for p in here if not any(p.samefile(other) for other in project)]
        name = top.resolve().name
        notes = next((p for p in (top / "configs" / NOTES, top / NOTES) if p.is_file()), Path())
    found = phase_files(phases)
    if not found:
        raise UsageError(
            f"there is no phase file in {phases}",
            remedy="a phase file ends in .yaml; the shipped configs/example.yaml is an example of one",
        )
    settings = [shipped / DEFAULT, *([config] if config else project)]
    return Sources(name, top if folder else None, found, tuple(settings), notes if notes.is_file() else None)


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", path.stem.lower())]
