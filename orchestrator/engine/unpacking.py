"""What came home as one tar becomes the files that it holds: each where it belongs, by its sha256, or none at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.engine.artifacts import PARTIAL, Home, is_whole, make_place, require_room, safe
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.packs import Pack, copy
from orchestrator.words.errors import StepFailed


@dataclass(frozen=True, slots=True)
class Unpacking:
    """A tar and those of its members that are to lie at home."""

    pack: Pack
    wanted: tuple[ManifestFile, ...]

    def is_done(self, home: Home) -> bool:
        """Whether each of them is there, whole."""
        return all(is_whole(home.folder / safe(member.name), member) for member in self.wanted)

    def prepare(self, home: Home, half: Path) -> None:
        """Before the first byte is fetched. StepFailed: a file could not take its place, or there is no room."""
        for member in self.wanted:
            _make_place(home, member)
        half.parent.mkdir(parents=True, exist_ok=True)
        require_room(half, self.pack.file, more=sum(member.bytes for member in self.wanted))

    def unpack(self, half: Path, home: Home, check: Callable[[], None]) -> None:
        """Write the files out of the tar, which is whole; one that is there already stays. Killed, it begins again.

        StepFailed: the tar is not of the files that were listed (nothing is written then), or one is another file.
        """
        with half.open("rb") as file:
            tops = self.pack.tops(file)
            for member in self.wanted:
                check()
                final = home.folder / safe(member.name)
                if is_whole(final, member):
                    continue
                partial = _make_place(home, member)
                partial.unlink(missing_ok=True)
                offset, executable = tops[member.name]
                copy(file, offset, member, partial, executable=executable)
                partial.replace(final)


def unpacked(packs: Mapping[str, Pack]) -> dict[str, Unpacking]:
    """All of these, by the names of their tars."""
    return {name: Unpacking(pack, pack.members) for name, pack in packs.items()}


def _make_place(home: Home, member: ManifestFile) -> Path:
    """Where a member is written before it has its name. StepFailed: see make_place, or a link is on the way there."""
    name = safe(member.name)
    final, partial = home.folder / name, home.folder / f"{name}{PARTIAL}"
    if final.parent.resolve() != home.folder.resolve() / name.parent:
        raise StepFailed(f"{final.parent} is reached by a link: nothing is unpacked through it", remedy="move it away")
    if not is_whole(final, member):
        make_place(final, partial, member, home.runs, force=home.force)
    return partial
