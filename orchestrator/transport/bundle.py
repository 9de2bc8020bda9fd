"""Tar files that are the same bytes for the same content, wherever and whenever they are made."""

from __future__ import annotations

import hashlib
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from orchestrator.words import files

SKIPPED = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".DS_Store")
DIGEST_CHARS = 16
BLOCK = 1 << 18
BOOTSTRAP = "bootstrap.sh"  # makes the machine's Python environment


@dataclass(frozen=True, slots=True)
class Bundle:
    """A tar and the hash that names its content."""

    digest: str
    tar: bytes = field(repr=False)


@lru_cache(maxsize=4)
def load(source: Path | None = None) -> Bundle:
    """The agent, ready to be unpacked: `source` is the folder remote/ (None: the one that gpuplan ships with)."""
    folder = source or files.remote()
    content = {"__main__.py": folder / "agent.py", BOOTSTRAP: folder / BOOTSTRAP}
    for path in sources(folder / "gpuplan_agent", "*.py"):
        content[f"gpuplan_agent/{path.relative_to(folder / 'gpuplan_agent').as_posix()}"] = path
    return Bundle(digest_of(content), b"".join(stream(content)))


def sources(folder: Path, pattern: str = "*") -> list[Path]:
    """The regular files below a folder, sorted, without caches."""
    found = [path for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink()]
    return sorted(path for path in found if not any(part in SKIPPED for part in path.relative_to(folder).parts))


def digest_of(content: Mapping[str, Path]) -> str:
    """Hash of names and contents: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(content):
        body = content[name].read_bytes()
        digest.update(f"{len(name.encode())} {name} {len(body)}\n".encode() + body)
    return digest.hexdigest()[:DIGEST_CHARS]


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def can_be_run(file: Path) -> bool:
    """Whether it is a program: its owner may run it, or it begins with #! (what came in a wheel may not)."""
    with file.open("rb") as opened:
        return bool(file.stat().st_mode & stat.S_IXUSR) or opened.read(2) == b"#!"


def stream(content: Mapping[str, Path]) -> Iterator[bytes]:
    """A tar of name -> file, piece by piece, with nothing in it of this machine: no owner, no time."""
    for name in sorted(content):
        entry = tarfile.TarInfo(f"./{name}")  # a name that begins with a dash is no option to anybody
        entry.size, entry.mtime = content[name].stat().st_size, 0
        entry.mode = 0o755 if can_be_run(content[name]) else 0o644
        yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8")
        with content[name].open("rb") as file:
            yield from iter(lambda: file.read(BLOCK), b"")
        yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(tarfile.RECORDSIZE)
