"""What the agent answers, as values, and its refusals, as errors."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.words.errors import StepFailed

LARGEST = 1e18  # of what a job may say of its progress
LONGEST_TEXT = 200  # characters of a text beside a figure


class AgentFailed(StepFailed):
    """The agent was reached and did not do it. `code` is one of its words, `facts` what else it said."""

    def __init__(self, code: str, message: str, *, remedy: str = "", facts: dict[str, Any] | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code
        self.facts = facts or {}


class GpuFailed(AgentFailed):
    """A GPU is missing (no_gpu) or fails a CUDA call (gpu_fault)."""


class DeadmanExpired(AgentFailed):
    """No heartbeat came for too long: the machine starts nothing more and ends its bill."""


class LeaseHeld(AgentFailed):
    """Somebody else has the lease."""

    @property
    def holder(self) -> str:
        """Who has it."""
        return str(self.facts.get("holder", ""))

    @property
    def expires(self) -> datetime:
        """When it runs out, by the machine's clock."""
        return datetime.fromtimestamp(float(self.facts.get("expires", 0.0)), UTC)


CLASSES: dict[str, type[AgentFailed]] = {
    "no_gpu": GpuFailed,
    "gpu_fault": GpuFailed,
    "deadman": DeadmanExpired,
    "held": LeaseHeld,
}


def failure(op: str, reply: dict[str, Any]) -> AgentFailed:
    """The error that a refusal stands for."""
    code = str(reply.get("code", "broken"))
    facts = {key: value for key, value in reply.items() if key not in ("ok", "code", "message")}
    return CLASSES.get(code, AgentFailed)(code, f"{op}: {reply.get('message', code)}", facts=facts)


def object_in(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None: it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def accept(op: str, reply: dict[str, Any]) -> dict[str, Any]:
    """The last line of an answer. AgentFailed: it is a refusal."""
    if not reply.get("ok"):
        raise failure(op, reply)
    return reply


def broken(op: str, code: int, said: bytes) -> AgentFailed:
    """The error for an agent that ended with `code` and said that instead of an answer."""
    text = said.decode("utf-8", "replace").strip().splitlines()
    return AgentFailed("broken", f"the agent ended with {code} in {op}: {text[-1] if text else 'it said nothing'}")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver lists it."""

    index: int
    name: str
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Hello:
    """What a machine is. `boot_id` differs after a restart; "" where that cannot be told."""

    agent: str
    workspace: str
    python: str
    boot_id: str
    cores: int
    memory_mib: int
    disk_free_mib: int
    gpus: tuple[Gpu, ...]
    user: str

    @classmethod
    def read(cls, reply: dict[str, Any]) -> Hello:
        """Build it from the agent's reply."""
        gpus = tuple(Gpu(gpu["index"], gpu["name"], gpu["memory_mib"]) for gpu in reply["gpus"])
        facts = {name: reply[name] for name in cls.__slots__ if name != "gpus"}
        return cls(gpus=gpus, **facts)


@dataclass(frozen=True, slots=True)
class Peaks:
    """The extremes of a job's samples. None: nothing was seen of it."""

    gpu_memory_percent: float | None = None
    gpu_memory_mib: float | None = None
    gpu_utilisation: float | None = None
    gpus_at_work: float | None = None  # how many cards computed, in one sample or another
    disk_free_mib_min: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with where it was measured, as the program says that measured it; "": it does not say.

    `device`: `cpu`, or the name of a card.
    """

    value: float
    measured_on: str = ""
    device: str = ""

    @classmethod
    def read(cls, said: Any) -> Figure | None:
        """Build it from what a job reported, which may be anything; None: that is no figure."""
        found = said if isinstance(said, dict) else {}
        value = found.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            return None
        texts = [found.get(key, "") for key in ("measured_on", "device")]
        measured_on, device = (text[:LONGEST_TEXT] if isinstance(text, str) else "" for text in texts)
        return cls(float(value), measured_on, device)


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended. `exit` is 128 + `signal` where a signal ended its shell."""

    exit: int
    signal: int | None
    oom: bool  # killed for want of memory, not by us
    timed_out: bool
    stopped: bool  # because we asked
    lost: bool  # its supervisor was killed or the machine went down: how it ended, nobody knows
    started: datetime
    ended: datetime
    log_bytes: int
    peaks: Peaks
    figures: dict[str, Figure] = field(default_factory=dict)
    cards: tuple[str, ...] = ()  # the kinds of card that were seen at work

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self.ended - self.started).total_seconds()

    @classmethod
    def read(cls, end: dict[str, Any]) -> JobEnd:
        """Build it from the agent's reply."""
        return cls(
            exit=end["exit"],
            signal=end["signal"],
            oom=end["oom"],
            timed_out=end["timed_out"],
            stopped=end["stopped"],
            lost=end["lost"],
            started=datetime.fromtimestamp(end["started"], UTC),
            ended=datetime.fromtimestamp(end["ended"], UTC),
            log_bytes=end["log_bytes"],
            peaks=Peaks(**end["peaks"]),
            figures={str(name): figure for name, said in end["metrics"].items() if (figure := Figure.read(said))},
            cards=tuple(map(str, end["cards"])),
        )


@dataclass(frozen=True, slots=True)
class GpuUse:
    """One GPU at one moment. None: the driver does not say."""

    index: int
    memory_used_mib: float | None
    memory_total_mib: float | None
    utilisation: float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job says it is, in bytes of its input or whatever it counts. None: it does not say."""

    done: float
    total: float  # > 0
    rate: float | None  # a second
    left_s: float | None
    what: str  # the thing in hand, as the machine wrote it; "": it does not say

    @classmethod
    def read(cls, said: Any) -> Progress | None:
        """Build it from what a step's program wrote, which may be anything; None: there is no progress in it."""
        if not isinstance(said, dict):
            return None
        done, total, rate, left = (_amount(said.get(name)) for name in ("done", "total", "rate", "left_s"))
        if done is None or not total:
            return None
        what = said.get("what")
        return cls(min(done, total), total, rate, left, what[:200] if isinstance(what, str) else "")


def _amount(value: Any) -> float | None:
    """A finite number that is not negative; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LARGEST:
        return None
    return float(value)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a job used at one moment, and how far it is. progress None: it does not say."""

    at: datetime
    gpus: tuple[GpuUse, ...]
    disk_free_mib: int
    progress: Progress | None = None

    @classmethod
    def read(cls, sample: dict[str, Any]) -> Sample:
        """Build it from the agent's line."""
        names = ("memory_used_mib", "memory_total_mib", "utilisation")
        gpus = tuple(GpuUse(int(gpu["index"]), *(gpu.get(name) for name in names)) for gpu in sample["gpus"])
        progress = Progress.read(sample.get("progress"))
        return cls(datetime.fromtimestamp(sample["at"], UTC), gpus, sample["disk_free_mib"], progress)

    def __str__(self) -> str:
        """`GPU memory 41.2 of 80.0 GiB, 93 % busy; disk 512 GiB free`: all GPUs together, the busiest one's share."""
        disk = f"disk {self.disk_free_mib / 1024:,.0f} GiB free"
        used = sum(gpu.memory_used_mib or 0 for gpu in self.gpus) / 1024
        total = sum(gpu.memory_total_mib or 0 for gpu in self.gpus) / 1024
        busy = max((gpu.utilisation for gpu in self.gpus if gpu.utilisation is not None), default=None)
        share = "" if busy is None else f", {busy:.0f} % busy"
        return f"GPU memory {used:.1f} of {total:.1f} GiB{share}; {disk}" if total else disk


@dataclass(frozen=True, slots=True)
class JobInfo:
    """One job of a machine. `end` is None while it runs."""

    job: str
    state: str  # running | ended
    service: bool
    end: JobEnd | None

    @classmethod
    def read(cls, entry: dict[str, Any]) -> JobInfo:
        """Build it from the agent's reply."""
        end = JobEnd.read(entry["end"]) if entry.get("end") else None
        return cls(entry["job"], entry["state"], entry["service"], end)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file. `path` is relative to the root that was asked for; `sha256` is None unless it was."""

    path: str
    bytes: int
    mtime: float
    sha256: str | None = None

    @classmethod
    def read(cls, entry: dict[str, Any]) -> FileInfo:
        """Build it from the agent's reply."""
        return cls(entry["path"], entry["bytes"], entry["mtime"], entry.get("sha256"))


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that we have until `expires`."""

    expires: datetime

    @classmethod
    def read(cls, reply: dict[str, Any]) -> Lease:
        """Build it from the agent's reply."""
        return cls(datetime.fromtimestamp(reply["expires"], UTC))


@dataclass(frozen=True, slots=True)
class PartSum:
    """One slice of a file with its CRC-32 (base64 of the big-endian value)."""

    number: int
    offset: int
    length: int
    crc32: str


@dataclass(frozen=True, slots=True)
class Checksums:
    """Checksums of a file: SHA-256 in hexadecimal, the others base64. `md5` is None unless it was asked for."""

    bytes: int
    sha256: str
    crc32: str
    parts: tuple[PartSum, ...]
    md5: str | None = None

    @classmethod
    def read(cls, reply: dict[str, Any]) -> Checksums:
        """Build it from the agent's reply."""
        parts = tuple(PartSum(p["number"], p["offset"], p["length"], p["crc32"]) for p in reply["parts"])
        return cls(reply["bytes"], reply["sha256"], reply["crc32"], parts, reply.get("md5"))


@dataclass(frozen=True, slots=True)
class SentPart:
    """What became of a PUT. `error` is "" when the store took the part."""

    number: int
    status: int  # HTTP; 0: no answer
    etag: str
    bytes: int  # stored
    range: str  # what a resumable upload says it holds
    error: str

    @property
    def stored(self) -> bool:
        """Whether the store has the part."""
        return not self.error

    @classmethod
    def read(cls, line: dict[str, Any]) -> SentPart:
        """Build it from the agent's line."""
        return cls(line["part"], line["status"], line["etag"], line["bytes"], line["range"], line.get("error", ""))
