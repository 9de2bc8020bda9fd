"""What runs leave in GPUPLAN_HOME, and its end: what ended rehearsals pulled, and whole runs that nobody wants."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import RunRow
from orchestrator.words.lifecycle import RunState
from orchestrator.world import sharing
from orchestrator.world.home import Home

KEPT = 3  # rehearsals whose pulled files stay
OF_A_REHEARSAL = ("pulled", "rehearsal")  # what it brought home, and its cloud


@dataclass(frozen=True, slots=True)
class Litter:
    """Folders of an ended rehearsal, with what they take on the disk."""

    run: str
    folders: tuple[Path, ...]
    bytes: int


def litter(home: Home, ledger: Ledger, keep: int = KEPT) -> list[Litter]:
    """What ended rehearsals left, but for the newest `keep`; the oldest first."""
    ended = [row for row in ledger.runs.all(dry_run=True) if row.state == RunState.DONE and not home.is_driven(row.id)]
    found = []
    for row in ended[: len(ended) - keep] if keep else ended:
        folders = tuple(folder for name in OF_A_REHEARSAL if (folder := home.run_folder(row.id) / name).is_dir())
        if folders:
            found.append(Litter(row.id, folders, sum(size_of(folder) for folder in folders)))
    return found


def clear(found: list[Litter]) -> None:
    """Delete it."""
    for one in found:
        for folder in one.folders:
            shutil.rmtree(folder, ignore_errors=True)


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir() or file.is_symlink())


def why_not(home: Home, ledger: Ledger, row: RunRow) -> str:
    """Why a run may not be forgotten; "": it may."""
    if row.state != RunState.DONE or home.is_driven(row.id):
        return f"{row.id} has not ended"
    living = [
        v.label for v in ledger.volumes.all(run=row.id) if not v.state.is_final and not _threw_away(home, v.cloud)
    ]
    return f"{row.id} made volume {', '.join(living)}, which is still there" if living else ""


def _threw_away(home: Home, cloud: str) -> bool:
    """Whether a volume's cloud was a rehearsal's own, whose folder goes with its run."""
    return cloud.startswith(str(home.path / "runs"))


def forget(home: Home, ledger: Ledger, run: str) -> None:
    """Remove all that the ledger says of a run, and its folder. What its machines cost is no more known then."""
    for book in (ledger.charges, ledger.steps, ledger.phases, ledger.deliverables, ledger.artifacts, ledger.figures,
                 ledger.courses,
                 ledger.volume_uses, ledger.claims, ledger.transfers, ledger.events, ledger.machines):  # fmt: skip
        book.remove(run=run)
    for volume in ledger.volumes.all(run=run):
        ledger.volumes.remove(name=volume.name)
    ledger.runs.remove(id=run)
    sharing.unshare(ledger, run)
    shutil.rmtree(home.run_folder(run), ignore_errors=True)
