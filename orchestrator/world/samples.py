"""What stands for a plan's inputs in a rehearsal: its own sample, or one small file, in the rehearsed store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.storage.checksum import crc32_of, md5_of
from orchestrator.storage.s3_try import send_as_a_machine
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Input
from orchestrator.words.store import ArtifactStore, Part

BUCKET = "gpuplan-rehearsal"  # of the emulated stores
NAME = "stand-in.txt"


def lay(one: Input, store: Callable[[str], ArtifactStore]) -> str:
    """Lay what stands for the input into the rehearsed store, and return its address: nobody's own is asked.

    It ends in the input's own address. UsageError: its sample cannot be read.
    """
    files = _files(one)
    scheme, place, single = _place(one)
    mark = f"sample-{_digest(one, files)}/" if one.sample else ""  # nothing of another one, or an older, lies there
    address = f"{scheme}://{BUCKET}/inputs/{mark}{place}"
    folder, _, name = address.rpartition("/") if single else (address, "", "")
    at = store(folder)
    for path, content in files.items():
        _put(at, name or path, content)
    return address


def _place(one: Input) -> tuple[str, str, bool]:
    """In which kind of store it is, its place there, and whether that is one object."""
    scheme, _, place = one.source.partition("://")
    if scheme not in ("s3", "gs"):  # one file, whatever its address says
        name = urlsplit(one.source).path.rpartition("/")[2] or "file"
        return "s3", f"{scheme}/{hashlib.sha256(one.source.encode()).hexdigest()[:16]}/{name}", True
    named = "." in place.rpartition("/")[2] and not Path(one.sample or NAME).is_dir()
    return scheme, place.strip("/"), named


def _files(one: Input) -> dict[str, bytes]:
    """What stands for the input: path -> content. Links are left out: one may lead out of the plan."""
    if not one.sample:
        return {NAME: f"This stands for {one.source} in a rehearsal.\n".encode()}
    sample = Path(one.sample)
    top, found = (sample, sorted(sample.rglob("*"))) if sample.is_dir() else (sample.parent, [sample])
    try:
        regular = [file for file in found if file.is_file() and not file.is_symlink()]
        files = {file.relative_to(top).as_posix(): file.read_bytes() for file in regular}
    except OSError as error:
        raise UsageError(f"the sample {sample} cannot be read: {error.strerror}") from error
    if not files:
        raise UsageError(f"there is no file at {sample}", remedy="correct `sample` in the phase's inputs")
    return files


def _digest(one: Input, files: dict[str, bytes]) -> str:
    rows = [one.source, *(f"{hashlib.sha256(content).hexdigest()} {path}" for path, content in files.items())]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]


def _put(store: ArtifactStore, name: str, content: bytes) -> None:
    """Have the store hold it, sent as a machine sends it."""
    sha256 = hashlib.sha256(content).hexdigest()
    stored = store.head(name)
    if stored and stored.sha256 == sha256:
        return
    upload = store.begin(name, len(content), sha256)
    parts = [
        Part(number, at, len(block), crc32_of(block), md5_of(block))
        for number, at in enumerate(range(0, len(content) or 1, upload.part_bytes), start=1)
        for block in [content[at : at + upload.part_bytes]]
    ]
    for signed in store.sign(upload, parts):
        at = signed.part.offset
        send_as_a_machine(store.url, signed, content[at : at + signed.part.length])
    store.complete(upload, parts)
