"""Tar files that are the same bytes for the same content, wherever and whenever they are made."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from orchestrator.words import files

SKIPPED = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".DS_Store")
DIGEST_CHARS = 16


@dataclass(frozen=True, slots=True)
class Bundle:
    """A tar and the hash that names its content."""

    digest: str
    tar: bytes = field(repr=False)


@lru_cache(maxsize=4)
def load(source: Path | None = None) -> Bundle:
    """The agent, ready to be unpacked: `source` is the folder remote/ (None: the one that gpuplan ships with)."""
    folder = source or files.remote()
    content = {"__main__.py": folder / "agent.py"}
    for path in sources(folder / "gpuplan_agent", "*.py"):
        content[f"gpuplan_agent/{path.relative_to(folder / 'gpuplan_agent').as_posix()}"] = path
    return Bundle(digest_of(content), pack(content))


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


def pack(content: Mapping[str, Path]) -> bytes:
    """A tar of name -> file, with nothing in it of this machine: no owner, no time. What begins with #! can be run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(content):
            body = content[name].read_bytes()
            entry = tarfile.TarInfo(f"./{name}")  # a name that begins with a dash is no option to anybody
            entry.size = len(body)
            entry.mode = 0o755 if body.startswith(b"#!") else 0o644
            entry.mtime = 0
            tar.addfile(entry, io.BytesIO(body))
    return buffer.getvalue()


def chunks(data: bytes, size: int = 1 << 18) -> Iterable[bytes]:
    """Slices of `data`."""
    return (data[at : at + size] for at in range(0, len(data), size))
