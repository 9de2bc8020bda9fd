"""Which files of a folder are its code: what git would take, but exactly as they lie there, and never from outside it.

Every .gitignore in it counts, by git's rules; git's own settings and index do not, so that the same folder is the same
code on every computer. Nothing of the folder is run, and nothing but a regular file is ever opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.transport.gitignore import Ignored
from orchestrator.words.errors import UsageError

IGNORE = ".gitignore"
SKIPPED = frozenset({".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".DS_Store"})
MOST_FILES = 20_000
LONGEST_IGNORE = 1 << 16  # bytes of a .gitignore
SHOWN = 5  # names in one message
MB = 1_000_000

_Rules = tuple[tuple[Path, Ignored], ...]  # each .gitignore with its folder, from the top down


@dataclass(frozen=True, slots=True)
class CodeFile:
    """One file: its path below the folder, and where its content lies."""

    path: str
    file: Path
    bytes: int


def find(folder: Path, *, most_mb: int, leave_out: Iterable[Path] = ()) -> list[CodeFile]:
    """The files below a folder, sorted by path, without what .gitignore and `leave_out` (folders, absolute) name.

    A link to a file inside the folder is that file. UsageError: a link that leads out of it or to no file, something
    that is neither file nor folder, a name that is no text, or more than `most_mb` MB or MOST_FILES.
    """
    walk = _Walk(folder.resolve(), frozenset(leave_out))
    walk.enter(folder.resolve(), ())
    if walk.wrong:
        raise UsageError(
            f"the code in {folder} cannot be sent: {_some(walk.wrong)}",
            remedy=f"change it, or name it in {folder / IGNORE}",
        )
    found = sorted(walk.found, key=lambda entry: entry.path)
    size = sum(entry.bytes for entry in found)
    if size > most_mb * MB or len(found) > MOST_FILES:
        raise UsageError(
            f"the code in {folder} has {len(found):,} files of {size / MB:,.1f} MB, and may have {MOST_FILES:,} of "
            f"{most_mb:,} MB; the largest: {_largest(found)}",
            remedy=f"name in {folder / IGNORE} what no machine needs, or raise code_mb; data belongs on the volume",
        )
    return found


class _Walk:
    """Collects what is code, and what is wrong, below one folder."""

    def __init__(self, root: Path, leave_out: frozenset[Path]) -> None:
        self._root, self._leave_out = root, leave_out
        self.found: list[CodeFile] = []
        self.wrong: list[str] = []

    def enter(self, folder: Path, rules: _Rules) -> None:
        """Look through a folder. `rules`: those of the folders above, with the folder that each is written in."""
        if (own := _rules_in(folder)) is not None:
            rules = (*rules, (folder, own))
        with os.scandir(folder) as entries:
            names = sorted(entries, key=lambda entry: entry.name)
        for entry in names:
            path = Path(entry.path)
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name in SKIPPED or path in self._leave_out or _ignored(path, rules, is_folder=is_folder):
                continue
            if len(self.found) > MOST_FILES:  # enough to refuse it
                return
            if is_folder:
                self.enter(path, rules)
            else:
                self._take(path)

    def _take(self, path: Path) -> None:
        name = path.relative_to(self._root).as_posix()
        real = path.resolve()
        if not name.isprintable() or "\\" in name:
            self.wrong.append(f"{name!r} is no name for every machine")
        elif path.is_symlink() and not real.is_relative_to(self._root):
            self.wrong.append(f"{name} is a link that leads out of the folder")
        elif path.is_symlink() and not real.is_file():
            self.wrong.append(f"{name} is a link to no file")
        elif not stat.S_ISREG((status := real.stat()).st_mode):
            self.wrong.append(f"{name} is no regular file")
        else:
            self.found.append(CodeFile(name, real, status.st_size))


def _rules_in(folder: Path) -> Ignored | None:
    """The folder's own .gitignore; None: it has none."""
    file = folder / IGNORE
    if file.is_symlink() or not file.is_file():
        return None
    with file.open("rb") as opened:
        return Ignored(opened.read(LONGEST_IGNORE).decode("utf-8", "replace"))


def _ignored(path: Path, rules: _Rules, *, is_folder: bool) -> bool:
    """Whether the nearest .gitignore that says anything of it says that it is ignored."""
    said = (own.says(path.relative_to(folder).as_posix(), is_folder=is_folder) for folder, own in reversed(rules))
    return next((word for word in said if word is not None), False)


def _largest(found: list[CodeFile]) -> str:
    """The entries of the folder that weigh most."""
    sizes: dict[str, int] = {}
    for entry in found:
        top = entry.path.partition("/")[0]
        sizes[top] = sizes.get(top, 0) + entry.bytes
    heaviest = sorted(sizes.items(), key=lambda item: -item[1])[:SHOWN]
    return ", ".join(f"{name} ({size / MB:,.1f} MB)" for name, size in heaviest)


def _some(wrong: list[str]) -> str:
    more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return "; ".join(wrong[:SHOWN]) + more
