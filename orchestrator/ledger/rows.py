"""One frozen value for each table: what the ledger says of it. Times are Unix seconds, None: not yet; money is USD."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, RunState, StepState, VolumeState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run."""

    id: str
    state: RunState
    outcome: Outcome | None = None
    dry_run: bool = False
    error: str = ""
    pid: int = 0
    stop: str = ""  # why somebody asked it to stop; "": nobody did
    version: str = ""  # of the story: another version cannot take the run up
    settled: bool = False
    tags: str = ""  # words of whoever began it, separated by commas
    plan: str = ""  # the plan's name
    created_at: float
    ended_at: float | None = None

    @property
    def is_play(self) -> bool:
        """See words.spec.WorldSpec."""
        return self.dry_run


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A file of a run's folder, in a database that several computers share."""

    run: str
    name: str  # below the folder
    content: bytes
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRow:
    """One phase of a run."""

    run: str
    name: str
    position: int = 0
    state: PhaseState
    outcome: Outcome | None = None
    error: str = ""
    started_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One step of a phase; `id` is PHASE/STEP, of the phase that it comes from."""

    run: str
    phase: str
    id: str
    position: int = 0
    state: StepState
    attempt: int = 0  # of its phase: one a set of machines
    tries: int = 0  # of its command in this attempt, the one that is under way included
    machines: str = ""  # names, separated by commas
    detail: str = ""
    started_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverableRow:
    """How one question at the end of a phase was answered. `ok` None: its machines could not show it."""

    run: str
    phase: str
    name: str
    position: int = 0
    ok: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRow:
    """One machine, from the moment its name was chosen."""

    name: str
    run: str
    phase: str  # that asked for it
    request: str  # which create of the phase it is: the same one after a crash
    node: int
    provider: str
    provider_id: str = ""  # "": the create is not known to have worked
    type_id: str
    gpu: str
    gpus: int
    place: str
    spot: bool = False
    price_hour: Decimal  # with its own disk
    disk_hour: Decimal = Decimal(0)  # of price_hour
    state: MachineState
    reason: str = ""  # why it ended
    failed: str = ""  # why it never served: refused, or it did not come up; "": it did, or was ended before
    host: str = ""
    port: int = 0
    user: str = ""
    private_ip: str = ""
    requested_at: float | None = None
    sent_at: float | None = None  # when the create was sent: from then on it may exist
    accepted_at: float | None = None
    reachable_at: float | None = None
    silent_at: float | None = None  # when it was given up as silent; None: it answers, or was not asked
    rebooted_at: float | None = None  # when its provider was asked to start it again: once in its life
    gone_at: float | None = None
    deadline: float | None = None
    billed_usd: Decimal | None = None  # by its provider, all of its time; None: that is not known, or not all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRow:
    """That a phase pays for a machine from `since` to `until`; a machine that is taken over is paid by the next."""

    machine: str
    run: str
    phase: str
    since: float
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRow:
    """One volume."""

    name: str
    run: str  # that made it
    label: str  # what the plan knows it by
    provider: str
    provider_id: str = ""
    place: str = ""
    size_gb: int = 0
    price_hour: Decimal = Decimal(0)
    state: VolumeState
    cloud: str = ""  # "": the real one; else the folder of a rehearsed one
    requested_at: float | None = None
    sent_at: float | None = None
    accepted_at: float | None = None
    gone_at: float | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUseRow:
    """That a run uses a volume: an earlier run's volume costs its later users."""

    volume: str
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRow:
    """That a run works on the volume of that label, until it has ended. `world`: cloud or host that it is in."""

    world: str
    label: str
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRow:
    """One file in one store."""

    run: str
    store: str
    name: str
    state: str  # UPLOADING, VERIFIED
    bytes: int = 0
    sha256: str = ""
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """The ledger's copy of a done-record on a volume: what the preview shows "as last seen"."""

    volume: str
    step: str
    key: str = ""
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """A figure of a step on one of its nodes, with where its program, or the agent, says that it was measured.

    `device`: `cpu`, or the name of a card; "": it was not said.
    """

    run: str
    step: str
    node: int
    name: str
    value: float
    measured_on: str = ""
    device: str = ""
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseRow:
    """What the GPUs of one node did while a step ran there, a point for each `every_s` seconds, of its newest try.

    `points`: JSON, `{"memory": [[highest, mean], null, ...], "busy": ...}` in percent.
    """

    run: str
    step: str
    node: int
    machine: str
    since: float
    every_s: float
    points: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKeyRow:
    """The host key that was seen at a machine's first contact."""

    address: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something that a person may want to read later."""

    id: int = 0
    run: str
    at: float
    text: str
    minor: bool = False  # only for who looks closely: it is no line of its own while a run goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRow:
    """How far files are on their way. `bytes_done` and `files_done` arrived, `moved` bytes of them since `since`.

    From `since` to `at` files were under way: what came once all before had arrived is as if it had followed at once.
    """

    run: str
    phase: str
    kind: str  # upload, pull, code, input
    place: str  # a store's URL, a folder at home, a machine's name
    files: int
    files_done: int = 0
    bytes: int
    bytes_done: int = 0
    moved: int = 0
    since: float
    at: float
    ended_at: float | None = None
