"""What the agent answers, as values; what it says of jobs is in job_replies, its refusals in refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import MaxLen
from pydantic import Field

from orchestrator.transport.shapes import Code, Count, Figure, LongText, Moment, Name, Path, Sum, Text, Truth


@dataclass(frozen=True, slots=True)
class Done:
    """An answer that says no more than that it was done."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver lists it."""

    index: Count
    name: Text
    memory_mib: Count


@dataclass(frozen=True, slots=True)
class Hello:
    """What a machine is. `boot_id` differs after a restart; "" where that cannot be told."""

    agent: Text
    workspace: Text
    python: Text
    boot_id: Text
    cores: Count
    memory_mib: Count
    disk_free_mib: Count
    gpus: Annotated[tuple[Gpu, ...], MaxLen(64)]
    user: Text
    time: Figure  # Unix seconds by its own clock

    def __post_init__(self) -> None:
        if not (self.workspace.startswith("/") and self.workspace.isprintable()):
            raise ValueError("a workspace that is no absolute path")


@dataclass(frozen=True, slots=True)
class Working:
    """One line of what takes long: bytes hashed so far, or what a program printed."""

    hashed: Count = 0
    log: LongText = ""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file. `path` is relative to the root that was asked for; its checksums are there if they were asked for."""

    path: Path
    bytes: Count
    mtime: Figure
    sha256: Sum | None = None
    samples: Sum = ""


@dataclass(frozen=True, slots=True)
class Files:
    """Files below a root; `outside`: links among them that lead out of the workspace."""

    files: tuple[FileInfo, ...]
    outside: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file of those that were packed, below the workspace."""

    path: Path
    bytes: Count
    sha256: Sum


@dataclass(frozen=True, slots=True)
class Packing:
    """One line of it: bytes read so far, or more files of the tar, in its order."""

    hashed: Count = 0
    members: tuple[PackedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Packed:
    """A tar that the machine can send without having it. `outside`: as in Files."""

    bytes: Count
    sha256: Sum
    outside: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class PackedFolder:
    """All that was said of one."""

    bytes: int
    sha256: str
    members: tuple[PackedFile, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """The names in a folder."""

    names: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class SmallText:
    """What a small file says; its bound is that of a line. None: there is no such file."""

    text: str | None


@dataclass(frozen=True, slots=True)
class Freed:
    """Bytes: that were removed, or that are in use."""

    bytes: Count


@dataclass(frozen=True, slots=True)
class CodeFolder:
    """Where the machine has a plan's code, absolute; "": it has none of it."""

    folder: Text

    def __post_init__(self) -> None:
        if self.folder and not (self.folder.startswith("/") and self.folder.isprintable()):
            raise ValueError("a folder that is no absolute path")


@dataclass(frozen=True, slots=True)
class View:
    """Whether a session with the live logs stands: the command that attaches to it, which is not believed; "": no."""

    attach: Text


@dataclass(frozen=True, slots=True)
class Opened:
    """The port of a door that stands open. None: it still does."""

    port: Count | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """How many came to a door before it was closed."""

    came: Count


@dataclass(frozen=True, slots=True)
class Knocked:
    """Why a door was not opened; "": it was."""

    why: Text


@dataclass(frozen=True, slots=True)
class Published:
    """Absolute path -> sha256 of the files whose checksums a job has said while it wrote them."""

    files: dict[Text, Sum]


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that we have until `expires`."""

    expires: Moment


@dataclass(frozen=True, slots=True)
class PartSum:
    """One slice of a file: CRC-32 (base64 of the big-endian value), and MD5 (base64) if it was asked for."""

    number: Count
    offset: Count
    length: Count
    crc32: Sum
    md5: Sum | None = None


@dataclass(frozen=True, slots=True)
class Checksums:
    """Checksums of a file: SHA-256 in hexadecimal, the others base64. `md5` is None unless it was asked for."""

    bytes: Count
    sha256: Sum
    crc32: Sum
    parts: tuple[PartSum, ...]
    md5: Sum | None = None

    def cuts(self, part_bytes: int) -> bool:
        """Whether its parts are those of a file of that size: one after the other, each full but for the last."""
        starts = range(0, max(self.bytes, 1), part_bytes)
        wanted = ((n, at, min(part_bytes, self.bytes - at)) for n, at in enumerate(starts, 1))
        found = ((part.number, part.offset, part.length) for part in self.parts)
        return len(starts) == len(self.parts) and all(one == other for one, other in zip(wanted, found, strict=True))


@dataclass(frozen=True, slots=True)
class Fetched:
    """How far a file is that a machine fetches. `error`: why it did not come, `status` what the store said; 0: nothing.

    One of the two, or `done`, is the last that is heard of a file.
    """

    file: Count  # its place among those that were asked for
    arrived: Count
    done: Truth = False
    error: Text = ""
    status: Code = 0


@dataclass(frozen=True, slots=True)
class SentPart:
    """What became of a PUT. `error` is "" when the store took the part."""

    number: Annotated[Count, Field(validation_alias="part")]
    status: Code  # HTTP; 0: no answer
    etag: Text
    bytes: Count  # stored
    range: Text  # what a resumable upload says it holds
    error: Text = ""

    @property
    def stored(self) -> bool:
        """Whether the store has the part."""
        return not self.error
