"""Artifacts as files: what a phase has made, what may be written at home, and its way home from the machine."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from orchestrator.engine.context import Context
from orchestrator.engine.download import arrived, forget, notes_of
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.packs import Pack, loose
from orchestrator.engine.sources import Sources
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import ConnectionLost, MachineLost, StepFailed
from orchestrator.words.outside import quoted

PARTIAL = ".partial"  # what is on its way here
STALLS = 5  # tries without a single new byte before a download is given up


def manifest_text(files: Sequence[ManifestFile], made_of: Sources, packs: Mapping[str, Pack] = {}) -> str:
    """A manifest as it is kept and stored. Versions to come read it: keys are added, never changed.

    `packs`: name of a tar among the files -> what it holds.
    """
    said = {"files": [asdict(file) for file in files], "sources": asdict(made_of)}
    held = {name: [asdict(member) for member in pack.members] for name, pack in packs.items()}
    return json.dumps(said | ({"packs": held} if held else {}), indent=1)


def manifest_files(text: str) -> list[ManifestFile]:
    """The files that a manifest lists; version 0.1.0 wrote the list alone."""
    found = json.loads(text)
    return [ManifestFile(**file) for file in (found["files"] if isinstance(found, dict) else found)]


def manifest_packs(text: str) -> dict[str, Pack]:
    """What the tars among a manifest's files hold, by their names."""
    found = json.loads(text)
    held = found.get("packs", {}) if isinstance(found, dict) else {}
    files = {file.name: file for file in manifest_files(text)}
    return {name: Pack(files[name], tuple(ManifestFile(**one) for one in held[name])) for name in held}


def manifest_loose(text: str) -> list[ManifestFile]:
    """The artifacts of a manifest under their own names, whatever they are stored in."""
    return loose(manifest_files(text), manifest_packs(text))


def manifest(
    agent: Agent, workspace: str, patterns: tuple[str, ...], folders: Sequence[str] = ()
) -> list[ManifestFile]:
    """Every artifact once, by name; not those in `folders`. StepFailed: the machine names one that it may not."""
    found = agent.files(workspace, list(patterns), sha256=True, strict=True, but=folders)
    return _checked([ManifestFile(f.path, f.bytes, f.sha256 or "") for f in found], patterns)


def pack(agent: Agent, patterns: tuple[str, ...], folder: str) -> Pack | None:
    """The artifacts of one folder as the tar that the machine will send; None: there is none in it.

    StepFailed: as of `manifest`, or the tar is not of the size that its files make.
    """
    found = agent.pack(folder, patterns)
    members = [ManifestFile(f.path, f.bytes, f.sha256) for f in found.members]
    _checked(members, patterns)
    if len({member.name for member in members}) < len(members):
        raise StepFailed(f"the machine lists a file of {folder} twice")
    made = Pack(ManifestFile(f"{folder}.tar", found.bytes, found.sha256), tuple(members))
    if made.file.bytes != made.bytes:
        raise StepFailed(f"{made.file.name} has {made.file.bytes:,} bytes, its files make {made.bytes:,}")
    return made if members else None


def joined(files: Sequence[ManifestFile], packs: Sequence[Pack]) -> list[ManifestFile]:
    """What goes to the stores, by name. StepFailed: an artifact is called as a tar is."""
    tars = {made.file.name: made.file for made in packs}
    alike = {name.casefold() for name in tars}
    if same := next((file.name for file in files if file.name.casefold() in alike), ""):
        raise StepFailed(f"the artifact {same} is called as the tar of a packed folder is", remedy="rename one")
    return sorted([*files, *tars.values()], key=lambda file: file.name)


def _checked(found: list[ManifestFile], patterns: tuple[str, ...]) -> list[ManifestFile]:
    """The same, by name. StepFailed: one has a name that it may not have."""
    files = {file.name: file for file in found}
    alike: dict[str, str] = {}
    for name in files:
        if why := _refusal(name, patterns):
            raise StepFailed(f"the artifact {quoted(name)!r} {why}", remedy="rename it in its step")
        if (other := alike.setdefault(name.casefold(), name)) != name:
            raise StepFailed(
                f"the artifacts {other} and {name} differ by case alone: some disks take them for one",
                remedy="rename one in its step",
            )
    return [files[name] for name in sorted(files)]


def _refusal(name: str, patterns: tuple[str, ...]) -> str:
    """Why an artifact may not have that name, whatever the machine says that it found; "": it may."""
    parts = name.split("/")
    said = {piece for pattern in patterns for piece in pattern.split("/") if piece.startswith(".")}
    if not name.isprintable():  # half a surrogate pair too: a name that is no UTF-8
        return "has a name that a store cannot take"
    if ".git" in (part.casefold() for part in parts):
        return "would lie in a folder of git's own"
    if any(part.startswith(".") and not any(fnmatchcase(part, piece) for piece in said) for part in parts):
        return "is hidden, which the plan's artifacts do not say"
    return "looks like half a file" if name.endswith(PARTIAL) else ""


def pull(
    context: Context,
    machine: str,
    workspace: str,
    file: ManifestFile,
    target: Path,
    came: Callable[[int, int], None] = lambda _bytes, _moved: None,
) -> None:
    """Fetch one file home, going on with what is there, and verify it. The final name appears only when it is right.

    `came` hears of its bytes, and of those that just came.
    """
    name = safe(file.name)
    final, partial = target / name, target / f"{name}{PARTIAL}"
    if is_whole(final, file):
        return
    make_place(final, partial, file, context.folder.parent, force=False)
    if notes_of(partial).exists():  # a store's half file, which may have holes
        forget(partial)
    path, stalls = posixpath.join(workspace, str(name)), 0
    while stalls < STALLS:
        context.control.check()
        before = _bytes(partial)
        try:
            found = _fetch(context, machine, path, partial, file.bytes, came)
        except ConnectionLost as error:
            stalls = 0 if _bytes(partial) > before else stalls + 1
            if stalls == STALLS:
                raise MachineLost(f"{name} could not be fetched: {error.message}") from error
            context.control.pause(context.clock.scaled(2.0**stalls))
            continue
        if found == file.sha256:
            partial.replace(final)
            return
        partial.unlink()  # not what the manifest says: from the beginning
        stalls += 1
    raise StepFailed(f"{name} arrived {STALLS} times with another sha256 than the machine's")


def _fetch(
    context: Context, machine: str, path: str, partial: Path, size: int, came: Callable[[int, int], None]
) -> str:
    """Append what is still to come of the machine's file to `partial`; return the sha256 of all of it."""
    with partial.open("a+b") as out:
        if out.tell() > size:
            out.truncate(0)
        out.seek(0)
        digest = hashlib.file_digest(out, "sha256")
        for chunk in context.agents(machine).transport.fetch(path, out.tell()):
            _append(out, chunk, size)
            digest.update(chunk)
            came(out.tell(), len(chunk))
            context.control.check()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _append(out: BinaryIO, chunk: bytes, size: int) -> None:
    """Write more of a file of `size` bytes. StepFailed: it would be longer; nothing of it is kept."""
    if out.tell() + len(chunk) > size:
        out.truncate(0)
        raise StepFailed(f"{Path(out.name).name} is longer than the {size:,} bytes that were listed")
    out.write(chunk)


@dataclass(frozen=True, slots=True)
class Home:
    """A folder that artifacts come to. `runs`: the folder of this home's runs, whose files may be replaced."""

    folder: Path
    runs: Path
    force: bool = False  # any file may be replaced


def make_place(final: Path, partial: Path, file: ManifestFile, runs: Path, *, force: bool) -> None:
    """Make the folder that a file comes into. StepFailed: something else is there, or there is no room for it."""
    foreign = final.exists() and not final.is_dir() and not force and not _was_fetched(final, file.name, runs)
    if foreign or final.is_symlink() or final.is_dir():
        raise StepFailed(
            f"{final} is there and is not what gpuplan fetched", remedy="move it away; gpuplan pull --force replaces it"
        )
    final.parent.mkdir(parents=True, exist_ok=True)
    require_room(partial, file)


def require_room(half: Path, file: ManifestFile, more: int = 0) -> None:
    """StepFailed: what is still to come of the file, and `more` bytes, do not fit where its half is."""
    missing, free = file.bytes - arrived(half) + more, shutil.disk_usage(half.parent).free
    if missing > free:
        raise StepFailed(f"disk full: {file.name} needs {missing:,} bytes more in {half.parent}, {free:,} are free")


def _was_fetched(path: Path, name: str, runs: Path) -> bool:
    """Whether a run of this home has listed a file of that name with what is there now."""
    found = ManifestFile(name, _bytes(path), _sha256(path))
    texts = (manifest.read_text() for manifest in runs.glob("*/manifest-*.json"))
    return any(found in (*manifest_files(text), *manifest_loose(text)) for text in texts)


def safe(name: str) -> PurePosixPath:
    """A manifest's name as a path below a folder; StepFailed for an absolute one or one with `..` in it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise StepFailed(f"the artifact name {name!r} leaves its folder: refused")
    return path


def is_whole(path: Path, file: ManifestFile) -> bool:
    """Whether the file at home is what the manifest says."""
    return path.exists() and path.stat().st_size == file.bytes and _sha256(path) == file.sha256


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
