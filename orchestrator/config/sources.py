"""Which files a plan is made of."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.words import files
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Phase

SHIPPED = "shipped"  # what the plan that comes with gpuplan is called
PROJECT_FILE = "gpuplan.yaml"
PHASES = "phases"  # the folder of a plan's phase files
DEFAULT = "default.yaml"
NOTES = "plan-notes.yaml"
LEAST_KEYS = 2  # of a phase's, in a file that is taken for one
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
    """The nearest folder from `here` upwards that is a plan's, whatever is wrong in it; None: there is none.

    It has a gpuplan.yaml or a folder phases/; `here` itself also is one with a phase file in it. A folder `phases`
    stands for the one around it. UsageError: the nearest one belongs to another user.
    """
    for folder in (here, *here.absolute().parents):
        found = next((path for path in (folder / PROJECT_FILE, folder / PHASES) if path.exists()), None)
        if found:
            _require_ours(found)
            return folder
        if folder == here and folder.name != PHASES and any(_looks_like_phase(path) for path in phase_files(folder)):
            return folder
    return None


def is_shipped(folder: Path) -> bool:
    """Whether the plan in this folder is the one that comes with gpuplan: its own checkout."""
    phases = folder / PHASES
    return phases.is_dir() and phases.samefile(files.phases())


def _require_ours(found: Path) -> None:
    """What is above the folder that somebody stands in may be anybody's: nobody's plan is run by surprise."""
    if found.stat().st_uid not in (os.getuid(), Path.cwd().stat().st_uid):
        raise UsageError(
            f"{found} would be the plan, and belongs to another user", remedy=f"--plan {found.parent} if it is meant"
        )


def _looks_like_phase(path: Path) -> bool:
    """Whether most of its top-level keys are those of a phase: it may be broken as YAML, and is meant all the same."""
    try:
        keys = set(re.findall(r"^([A-Za-z_]+)[ \t]*:", path.read_text(errors="replace"), re.MULTILINE))
    except OSError:
        return False
    ours = keys & Phase.model_fields.keys()
    return len(ours) >= LEAST_KEYS and 2 * len(ours) > len(keys)


def phase_files(folder: Path) -> tuple[Path, ...]:
    """Return the folder's phase files in natural order: day2 before day10."""
    found = [p for p in folder.glob("*.y*ml") if p.suffix in {".yaml", ".yml"} and p.name not in _NOT_PHASES]
    return tuple(sorted(found, key=_natural))


def find(folder: Path | None, config: Path | None) -> Sources:
    """Return what `folder` consists of; None: the plan that comes with gpuplan. UsageError: none is there.

    The project file of the folder where gpuplan is run comes last, and so wins.
    """
    shipped: tuple[Path, ...] = (files.configs() / DEFAULT,)
    here = Path(PROJECT_FILE) if Path(PROJECT_FILE).is_file() else None
    project: tuple[Path, ...] = ()
    if folder is None:
        name, top, phases = SHIPPED, files.shipped(), files.phases()
        shipped = (*shipped, files.shipped() / PROJECT_FILE)
    else:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}", remedy="name a folder with phase files")
        phases = folder / PHASES if (folder / PHASES).is_dir() else folder
        top = folder.parent if folder.name == PHASES else folder
        project = tuple(p for p in (top / "configs" / DEFAULT, top / PROJECT_FILE) if p.is_file())
        name = top.resolve().name
    found = phase_files(phases)
    if not found:
        raise UsageError(
            f"there is no phase file in {phases}, which makes the plan",
            remedy="a phase file ends in .yaml, as the shipped configs/example.yaml; "
            "--plan shipped means the plan that comes with gpuplan",
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
