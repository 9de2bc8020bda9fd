"""What the agent says of jobs: that they run, what they use, how far they are, how they ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Gt, MaxLen
from pydantic import BeforeValidator, Field, PlainValidator

from orchestrator.transport.measured import Measured, by_name
from orchestrator.transport.shapes import Amount, Code, Count, Figure, Moment, Output, Text, Truth

LARGEST = 1e18  # of what a job may say of its progress
MOST_POINTS = 300  # of a course

Point = tuple[Amount, Amount]  # the highest of a stretch of time, and the mean


@dataclass(frozen=True, slots=True)
class Peaks:
    """The extremes of a job's samples. None: nothing was seen of it."""

    gpu_memory_percent: Figure | None = None
    gpu_memory_mib: Figure | None = None
    gpu_utilisation: Figure | None = None
    gpus_at_work: Figure | None = None  # how many cards computed, in one sample or another
    disk_free_mib_min: Figure | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """What a job's GPUs did over its time, in percent, a point for each `every_s` seconds. None: nothing was seen."""

    since: Moment  # by the machine's clock
    every_s: Annotated[Amount, Gt(0)]
    memory: Annotated[tuple[Point | None, ...], MaxLen(MOST_POINTS)]
    busy: Annotated[tuple[Point | None, ...], MaxLen(MOST_POINTS)]


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
    course: Course | None = None  # None: no GPU was seen

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
    """What a job used at one moment, and how far it is. progress None: it does not say.

    course: what it used up to then, told now and then. moved_bytes: what its processes have read and written so far;
    None: the machine does not tell.
    """

    at: Moment
    gpus: Annotated[tuple[GpuUse, ...], MaxLen(64)]
    disk_free_mib: Count
    progress: Annotated[Progress | None, BeforeValidator(Progress.read)] = None
    course: Course | None = None
    moved_bytes: Count | None = None

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

    log: Output = ""
    offset: Count | None = None
    sample: Sample | None = None
    state: State | None = None

    def __post_init__(self) -> None:
        if self.log and self.offset is None:
            raise ValueError("output without its offset")


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
