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
FORMER = "former.json"
_NOT_PHASES = {PROJECT_FILE, DEFAULT, NOTES}


@dataclass(frozen=True)
class Sources:
    """The files of one plan. `settings` in rising precedence; gpuplan's own come first, `own` is how many they are."""

    name: str
    folder: Path | None  # None: the shipped plan
    phases: tuple[Path, ...]
    settings: tuple[Path, ...]
    notes: Path | None
    former: Path | None  # what the plan's author says of its former states
    own: int
    elsewhere: Path | None  # the one of `settings` that is of the current folder, and not the plan's


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
    shipped: tuple[Path, ...] = (files.configs() / DEFAULT,)
    here = Path(PROJECT_FILE) if Path(PROJECT_FILE).is_file() else None
    folder = folder or find_plan(Path.cwd())
    project: tuple[Path, ...] = ()
    if folder is None:
        name, top, phases, shipped = (
            "shipped",
            files.shipped(),
            files.phases(),
            (*shipped, files.shipped() / PROJECT_FILE),
        )
    else:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}", remedy="name a folder with phase files")
        phases = folder / "phases" if (folder / "phases").is_dir() else folder
        top = folder.parent if folder.name == "phases" else folder
        project = tuple(p for p in (top / "configs" / DEFAULT, top / PROJECT_FILE) if p.is_file())
        name = top.resolve().name
    found = phase_files(phases)
    if not found:
        raise UsageError(
            f"there is no phase file in {phases}",
            remedy="a phase file ends in .yaml; the shipped configs/example.yaml is an example of one",
        )
    is_own = here and any(here.samefile(p) for p in (*project, files.shipped() / PROJECT_FILE))
    elsewhere = None if is_own or config else here
    return Sources(
        name=name,
        folder=top if folder else None,
        phases=found,
        settings=(*shipped, *((config,) if config else project), *((elsewhere,) if elsewhere else ())),
        notes=next((p for p in (top / "configs" / NOTES, top / NOTES) if p.is_file()), None),
        former=next((p for p in (top / "configs" / FORMER,) if p.is_file()), None),
        own=len(shipped),
        elsewhere=elsewhere,
    )


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", path.stem.lower())]
