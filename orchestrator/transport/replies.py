"""What the agent answers, as values, and its refusals, as errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import MaxLen
from pydantic import BeforeValidator, Field, PlainValidator

from orchestrator.transport.measured import Measured, by_name
from orchestrator.transport.shapes import (
    Amount,
    Code,
    Count,
    Figure,
    LongText,
    Moment,
    Name,
    Path,
    Sum,
    Text,
    Truth,
)

T = TypeVar("T")
LARGEST = 1e18  # of what a job may say of its progress
EPOCH = datetime.fromtimestamp(0, UTC)
NOISE = 1000  # bytes that are kept of what is no answer


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
class Peaks:
    """The extremes of a job's samples. None: nothing was seen of it."""

    gpu_memory_percent: Figure | None = None
    gpu_memory_mib: Figure | None = None
    gpu_utilisation: Figure | None = None
    gpus_at_work: Figure | None = None  # how many cards computed, in one sample or another
    disk_free_mib_min: Figure | None = None


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended. `exit` is 128 + `signal` where a signal ended its shell."""

    exit: Code
    signal: Code | None
    oom: Truth  # killed for want of memory, not by us
    timed_out: Truth
    stopped: Truth  # because we asked
    lost: Truth  # its supervisor was killed or the machine went down: how it ended, nobody knows
    started: Moment
    ended: Moment
    log_bytes: Count
    peaks: Peaks
    figures: Annotated[dict[str, Measured], PlainValidator(by_name), Field(alias="metrics")] = field(
        default_factory=dict
    )
    cards: Annotated[tuple[Text, ...], MaxLen(64)] = ()  # the kinds of card that were seen at work

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return max((self.ended - self.started).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class GpuUse:
    """One GPU at one moment. None: the driver does not say."""

    index: Amount
    memory_used_mib: Amount | None = None
    memory_total_mib: Amount | None = None
    utilisation: Amount | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job says it is, in bytes of its input or whatever it counts. None: it does not say."""

    done: float
    total: float  # > 0
    rate: float | None  # a second
    left_s: float | None
    what: str  # the thing in hand, as the machine wrote it; "": it does not say
    unit: str = ""  # what is counted: B for bytes; "": it does not say

    @classmethod
    def read(cls, said: Any) -> Progress | None:
        """Build it from what a step's program wrote, which may be anything; None: there is no progress in it."""
        if not isinstance(said, dict):
            return None
        done, total, rate, left = (_amount(said.get(name)) for name in ("done", "total", "rate", "left_s"))
        if done is None or not total:
            return None
        what, unit = (text if isinstance(text := said.get(name), str) else "" for name in ("what", "unit"))
        unit = unit if unit.isalpha() and unit.isascii() else ""
        return cls(min(done, total), total, rate, left, what[:200], unit[:20])


def _amount(value: Any) -> float | None:
    """A finite number that is not negative; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LARGEST:
        return None
    return float(value)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a job used at one moment, and how far it is. progress None: it does not say."""

    at: Moment
    gpus: Annotated[tuple[GpuUse, ...], MaxLen(64)]
    disk_free_mib: Count
    progress: Annotated[Progress | None, BeforeValidator(Progress.read)] = None

    def __str__(self) -> str:
        """`GPU memory 41.2 of 80.0 GiB, 93 % busy; disk 512 GiB free`: all GPUs together, the busiest one's share."""
        disk = f"disk {self.disk_free_mib / 1024:,.0f} GiB free"
        used = sum(gpu.memory_used_mib or 0 for gpu in self.gpus) / 1024
        total = sum(gpu.memory_total_mib or 0 for gpu in self.gpus) / 1024
        busy = max((gpu.utilisation for gpu in self.gpus if gpu.utilisation is not None), default=None)
        share = "" if busy is None else f", {busy:.0f} % busy"
        return f"GPU memory {used:.1f} of {total:.1f} GiB{share}; {disk}" if total else disk


State = Literal["running", "ended"]


@dataclass(frozen=True, slots=True)
class Started:
    """Where a job stands that was asked to start."""

    state: State


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job that was followed or stopped has ended."""

    end: JobEnd


@dataclass(frozen=True, slots=True)
class Watched:
    """One line of a job that is followed: output with the offset behind it, or a sample, or that it was started."""

    log: LongText = ""
    offset: Count | None = None
    sample: Sample | None = None
    state: State | None = None

    def __post_init__(self) -> None:
        if self.log and self.offset is None:
            raise ValueError("output without its offset")


@dataclass(frozen=True, slots=True)
class Working:
    """One line of what takes long: bytes hashed so far, or what a program printed."""

    hashed: Count = 0
    log: LongText = ""


@dataclass(frozen=True, slots=True)
class JobInfo:
    """One job of a machine. `end` is None while it runs."""

    job: Text
    state: State
    service: Truth
    end: JobEnd | None = None


@dataclass(frozen=True, slots=True)
class Jobs:
    """Every job of a machine."""

    jobs: tuple[JobInfo, ...]


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
    """One slice of a file with its CRC-32 (base64 of the big-endian value)."""

    number: Count
    offset: Count
    length: Count
    crc32: Sum


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
