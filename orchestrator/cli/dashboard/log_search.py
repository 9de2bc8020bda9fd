"""The steps' logs for a page: which there are, and the lines of one that hold a text."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

MOST_LINES = 1000  # on a page
MOST_BYTES = 8_000_000  # of a log, from its end


@dataclass(frozen=True, slots=True)
class Found:
    """Lines with the log and the number of each, the last ones; `matching` of so many; `cut`: not all was read."""

    lines: tuple[tuple[str, int, str], ...]
    matching: int
    of: int
    cut: bool


def names(folder: Path) -> list[str]:
    """PHASE/STEP of every log, the one that was written last first. `folder`: the run's logs."""
    files = sorted(folder.glob("*/*.log"), key=lambda p: p.stat().st_mtime, reverse=True) if folder.is_dir() else []
    return [file.relative_to(folder).as_posix().removesuffix(".log") for file in files]


def search(folder: Path, name: str, text: str) -> Found | None:
    """The lines which hold the text, capital or small, of that log, of all for "". None: there is no such log."""
    known = names(folder)
    if name and name not in known:
        return None
    wanted, matching, of, cut = text.casefold(), deque[tuple[str, int, str]](maxlen=MOST_LINES), 0, False
    count = 0
    for one in [name] if name else reversed(known):
        lines, begun = _lines(folder / f"{one}.log")
        of, cut = of + len(lines), cut or begun
        found = [(one, number, line) for number, line in enumerate(lines, 1) if wanted in line.casefold()]
        count += len(found)
        matching.extend(found)
    return Found(tuple(matching), count, of, cut)


def _lines(log: Path) -> tuple[list[str], bool]:
    """Its lines, and whether its beginning is not among them."""
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - MOST_BYTES, 0))
        lines = file.read().decode("utf-8", "replace").split("\n")
    return lines[:-1] if not lines[-1] else lines, size > MOST_BYTES
