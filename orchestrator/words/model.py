"""The frozen values that a plan is made of: what the YAML files mean, and what a run keeps in its folder.

Times are seconds, sizes GB of 10^9 bytes unless a name says otherwise, money is US dollars as Decimal.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field

from orchestrator.words.publish import Publish
from orchestrator.words.store_url import StoreText
from orchestrator.words.value import Value


@dataclass(frozen=True, slots=True)
class Duration:
    """Marks seconds that a file writes as 90s, 30m, 1h30m or 2d."""

    def __get_pydantic_json_schema__(self, _schema: object, _handler: object) -> dict[str, object]:
        """What an editor should accept: a text with units, or plain seconds."""
        text = {"type": "string", "pattern": r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?$", "minLength": 2}
        return {"anyOf": [text, {"type": "number", "exclusiveMinimum": 0}]}


# Bounds that nobody meets on purpose: what is beyond them is a slip of the keyboard, and would be found when it costs.
YEAR_S = 365 * 86400
Seconds = Annotated[float, Field(gt=0, le=YEAR_S), Duration()]
Usd = Annotated[Decimal, Field(le=1_000_000_000)]
Gigabytes = Annotated[Decimal, Field(ge=0, le=1_000_000)]
Rate = Annotated[Decimal, Field(ge=Decimal("0.001"), le=1_000_000)]  # MB/s


# gpuplan's names of GPUs -> GB of memory of one. Cards that are sold with one size of memory carry no size.
GPU_MEMORY_GB: dict[str, int] = {
    "RTX-3090": 24, "RTX-4090": 24, "RTX-5090": 32, "RTX-6000": 24,
    "RTX-6000-ADA": 48, "RTX-A5000": 24, "RTX-A6000": 48, "L4": 24,
    "L40": 48, "L40S": 48, "A10-24GB": 24, "A40": 48,
    "V100-16GB": 16, "A100-40GB": 40, "A100-80GB": 80, "H100-80GB": 80,
    "H100-94GB": 94, "GH200-96GB": 96, "H200-141GB": 141, "B200-180GB": 180,
}  # fmt: skip


class MachineNeed(Value):
    """What machine a phase needs. Memory and number of GPUs decide; the names are an order of preference."""

    gpu: tuple[str, ...] = ()  # gpuplan's names, e.g. A100-80GB; empty: a machine without GPU will do
    count: int = Field(default=1, ge=0, le=64)  # GPUs a node
    nodes: int = Field(default=1, ge=1, le=64)
    image: str | None = None  # None: the provider's image in configs/
    disk_gb: int = Field(default=50, ge=10, le=1_000_000)
    ports: tuple[str, ...] = ("22/tcp",)
    reuse: str | None = None  # take over that phase's machine when it fits
    staging: Literal["cpu", "none"] = "cpu"  # where steps run that need no GPU, in a phase with a volume


class VolumeNeed(Value):
    """Storage that outlives the machine; phases that name the same volume share it."""

    name: str
    size_gb: int = Field(ge=10, le=1_000_000)


class Planned(Value):
    """What the user's own table says about a phase, to compare with."""

    hours: Decimal = Field(ge=0, le=1_000_000)
    usd: Usd = Field(ge=0)


class RunsOn(StrEnum):
    """Which nodes of a phase run a step."""

    ROOT = "root"
    WORKERS = "workers"
    ALL = "all"


class Ready(Value):
    """When a service counts as ready: a line of its log, or a TCP port on its node."""

    log: str | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    timeout: Seconds = 120.0


def _any(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the hub's patterns names the path: `*` crosses folders there, and `folder/` means all in it."""
    return any(fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in patterns)


class HubCheckout(Value):
    """The step fills `dir` with this hub repository: each file is checked against the hub's own list."""

    repo: str
    dir: str  # below the workspace
    revision: str = "main"  # a branch or a tag becomes a commit when the step begins
    include: tuple[str, ...] = ()  # patterns as those of `hf download`; empty: every file
    exclude: tuple[str, ...] = ()  # ... of files that are left out

    def wants(self, path: str) -> bool:
        """Whether that file of the repository is one of those that are downloaded."""
        return (not self.include or _any(path, self.include)) and not _any(path, self.exclude)


class Input(Value):
    """What a phase fetches before its first step: an object of a store, or all below a prefix; or a file by https."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    source: str = Field(alias="from")  # s3://bucket/key, gs://bucket/key or https://host/file
    to: str  # folder below the workspace; by https the file itself, or its folder where it ends in /
    gb: Gigabytes = Decimal(0)  # what it weighs, for the estimate; 0: whoever has it is asked
    sha256: str = ""  # hexadecimal, of an input that is one file; "": whatever its store says of it holds
    sample: str = ""  # file or folder of the plan's that stands for it where nothing is fetched from outside

    @property
    def is_file(self) -> bool:
        """Whether `to` is the file's own path."""
        return self.source.startswith("https://") and not self.to.endswith("/")


class Step(Value):
    """One command of a phase, or one of gpuplan's own (`builtin`)."""

    name: str
    run: str = ""
    builtin: Literal["overlay", "report", "inputs"] | None = None
    text: str = ""  # what a report says above the measured figures
    cwd: str = "."  # below the workspace
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()  # beside the phase's: for this step alone
    needs: tuple[str, ...] = ()  # names of this phase's steps, or PHASE/STEP
    uses: tuple[str, ...] = ()  # globs of the code's files that its result depends on
    gpu: bool = True  # False: could run on a machine without one
    on: RunsOn = RunsOn.ROOT
    ready: Ready | None = None  # set: the step is a service
    timeout: Seconds = 6 * 3600.0
    retries: int = Field(default=0, ge=0, le=10)
    matrix: dict[str, tuple[str, ...]] = {}  # names and values: a step for each combination; read by config.matrix
    on_oom: str | None = None
    creates: tuple[str, ...] = ()  # globs below cwd
    hub: HubCheckout | None = None
    reads_gb: Gigabytes = Decimal(0)
    writes_gb: Gigabytes = Decimal(0)
    rate: str = "volume"  # which of configs' rates its bytes move at
    expect: Seconds | None = None  # estimated seconds; None: estimated from the bytes


class Deliverable(Value):
    """Something that must hold at the end of a phase. Exactly one kind of question is set."""

    name: str
    machine: Literal["reachable"] | None = None
    file: str | None = None  # glob below the workspace: every match, and at least one
    min_bytes: int | None = Field(default=None, ge=0, le=10**18)
    same: tuple[str, ...] = ()  # files with one sha256
    checkpoint: str | None = None  # folder: every shard its index names, with the size and sha256 of the hub
    step: str | None = None  # that step succeeded
    stdout: str | None = None  # ... and a line of its standard output holds this text
    matches: str | None = None  # ... or matches this regular expression
    metric: str | None = None  # ... and this figure of it is within bounds
    min: Decimal | None = None
    max: Decimal | None = None
    device: Literal["cpu", "gpu"] | None = None  # ... and was measured there
    pulled: str | None = None  # glob below pull_to, fetched home and verified
    uploaded: str | None = None  # glob below the workspace, verified in every store


class Phase(Value):
    """One phase file."""

    name: str
    title: str = ""
    machine: MachineNeed = MachineNeed()
    volume: VolumeNeed | None = None
    planned: Planned | None = None
    budget_usd: Usd | None = Field(default=None, gt=0)
    spot: bool | None = None  # interruptible GPU machines, or never; None: as the run's flags say
    max_usd_hour: Usd | None = Field(default=None, gt=0)  # of all its machines together: dearer ones are not rented
    timeout: Seconds = 24 * 3600.0
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()  # from stores, before its first step
    steps: tuple[Step, ...]
    deliverables: tuple[Deliverable, ...] = ()
    artifacts: tuple[str, ...] = ()  # globs below the workspace
    pack: dict[str, Literal["tar"]] = {}  # folders whose artifacts go to the stores as one object, FOLDER.tar
    artifacts_gb: Gigabytes = Decimal(0)  # what they weigh, for the estimate
    pull_to: str | None = None

    def step(self, name: str) -> Step:
        """Return the step of that name (KeyError: there is none)."""
        return {s.name: s for s in self.steps}[name]


class Rates(Value):
    """Bytes per second, in MB/s, that estimates are made with until a run has measured better ones."""

    hub: Rate = Decimal(300)
    volume: Rate = Decimal(400)
    converter: Rate = Decimal(400)
    upload: Rate = Decimal(200)
    home: Rate = Decimal(125)  # from the store to the user's own disk


class Defaults(Value):
    """What every phase of the plan has that does not say otherwise."""

    volume: VolumeNeed | None = None
    env: dict[str, str] = {}  # a phase's own variables win
    image: str | None = None
    inputs: tuple[Input, ...] = ()  # of phases that name none

    def apply(self, phase: Phase) -> Phase:
        """The phase with what it leaves out."""
        image = phase.machine.image if phase.machine.image is not None else self.image
        return phase.model_copy(
            update={
                "volume": phase.volume or self.volume,
                "env": {**self.env, **phase.env},
                "inputs": phase.inputs or self.inputs,
                "machine": phase.machine.model_copy(update={"image": image}),
            }
        )


# What somebody is told of a run who does not look on; budget: 50, 80 and 100 % of it are spent.
NoticeKind = Literal["started", "deliverable_failed", "phase_done", "budget", "undriven", "left_running", "done"]


class Settings(Value):
    """configs/*.yaml: what is not the plan's own."""

    plan: str = Field(default="", max_length=40)  # what the plan is called, wherever its folder is; "": as its folder
    providers: tuple[str, ...] = ("runpod", "lambda")  # in order of preference
    images: dict[str, str] = {}  # provider -> image
    cpu_images: dict[str, str] = {}  # provider -> image of its machines without GPU; none: as the others'
    cuda: dict[str, str] = {}  # provider -> the version that its image needs of a machine's driver, as 12.8
    stores: tuple[Annotated[str, StoreText()], ...] = ()
    rates: Rates = Rates()
    rates_low: Rates = Rates()  # the lowest that are known of, for the far end of an estimate
    budget_usd: Usd | None = Field(default=None, gt=0)  # the whole plan's
    volume_days: int = Field(default=7, ge=1, le=3650)
    step_seconds: Seconds = 30.0  # estimate of a step that says nothing of itself
    boot_seconds: Seconds = 180.0
    max_replacements: int = Field(default=3, ge=0, le=1000)  # machines lost in one phase before it gives up
    deadman_minutes: float = Field(default=60.0, gt=0, le=YEAR_S / 60)
    readiness_seconds: Seconds = 900.0
    unreachable_minutes: float = Field(default=15.0, gt=0, le=YEAR_S / 60)  # of silence, before a machine is replaced
    hub_url: str = "https://huggingface.co"
    notify: tuple[str, ...] = ()  # apprise's addresses, or names of variables that hold one: who is told of a run
    notify_on: tuple[NoticeKind, ...] = get_args(NoticeKind)  # ... and of what
    code: str = ""  # folder below the plan's that is laid on every machine; "": nothing of the user's is
    code_mb: int = Field(default=100, ge=1, le=10_000)  # what it may weigh, in MB of 10^6 bytes
    requirements: tuple[str, ...] = ()  # files of the code with Python packages for every machine
    requirements_gpu: tuple[str, ...] = ()  # ... and more of them, for those with a GPU
    setup: str = ""  # command that runs once on every machine, in the code's folder, before its first step
    defaults: Defaults = Defaults()  # of every phase; they are in the phases by the time that a plan is read
    publish: Publish | None = None  # what `gpuplan publish` offers to others; None: nothing


# Settings that name files of one plan: no other plan's gpuplan.yaml has a say in them, and neither has a variable.
OF_THE_PLAN = frozenset({"code", "code_mb", "requirements", "requirements_gpu", "setup", "defaults", "publish"})


class Former(Value):
    """An earlier state of things under which steps gave the same results as they do now.

    Only its author can know that: for a converter, because both write the same bytes.
    """

    version: str = ""
    why: str = ""
    covers: tuple[str, ...] = ()  # folders of the code as they were: what `payload` does not list was not there
    payload: dict[str, str] = {}  # path -> the sha256 that the file had
    steps: dict[str, dict[str, Any]] = {}  # step id -> fields of it as they were


class Note(Value):
    """One claim of the user's own plan that does not hold, and what does. `fact` may compute: {a * 2:.0f}."""

    about: str
    plan: str  # what the plan says
    fact: str  # what is so; names of figures stand in braces
    source: str = ""  # where the figures come from

    def sentences(self) -> dict[str, str]:
        """Return the texts that may have formulas in them, by their keys."""
        return {"about": self.about, "plan": self.plan, "fact": self.fact}


class Expected(Value):
    """A figure that the user's plan expects, to stand beside what is so and what a run measured."""

    what: str
    plan: str
    fact: str  # like a Note's
    step: str | None = None  # PHASE/STEP that measures it; None: no step does
    metric: str | None = None  # by this name
    scale: Decimal = Decimal(1)  # the measured value is multiplied by this
    unit: str = ""

    def sentences(self) -> dict[str, str]:
        """Return the texts that may have formulas in them, by their keys."""
        return {"fact": self.fact}


class Notes(Value):
    """What the preview says about the plan's claims; `figures` are the numbers that facts are computed from."""

    figures: dict[str, Decimal] = {}
    notes: tuple[Note, ...] = ()
    expected: tuple[Expected, ...] = ()


class Plan(Value):
    """All phases of a plan, in order, and the settings; frozen into a run's folder as plan.json."""

    name: str
    folder: str = ""  # where it was read; "": the shipped one
    read: tuple[str, ...] = ()  # the settings files beside gpuplan's own defaults
    phases: tuple[Phase, ...]
    settings: Settings = Settings()
    notes: Notes = Notes()
    formers: tuple[Former, ...] = ()

    @property
    def called(self) -> str:
        """Which plan it is, and from where it was read, in words."""
        return f"plan {self.name}" + (f" in {self.folder}" if self.folder else ", which comes with gpuplan")

    def phase(self, name: str) -> Phase:
        """Return the phase of that name (KeyError: there is none)."""
        return {p.name: p for p in self.phases}[name]
