"""All that a report says of a run, at one moment: the picture that every view draws, and what lies behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from orchestrator.cost import CostReport
from orchestrator.engine.packs import counted
from orchestrator.report.snapshot import Snapshot
from orchestrator.report.verdicts import Verdict

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Time in which a phase paid for a machine. until None: it still does."""

    machine: str  # as people say it
    phase: str
    usd_hour: Decimal
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Use:
    """The peaks of a step on one node, as the agent sampled them. None: nothing was seen."""

    step: str
    node: int
    cards: str  # that were seen at work; "": none was
    memory_percent: float | None = None
    memory_mib: float | None = None
    busy_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """What a machine's GPUs did while a step ran there, in percent, a point (highest, mean) for each `every_s` seconds.

    None: nothing was seen then.
    """

    step: str
    machine: str  # as people say it
    since: datetime
    every_s: float
    memory: tuple[Point | None, ...]
    busy: tuple[Point | None, ...]


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure that a step published. `measured_on`: as its program says; `device`: cpu, a card, "" for unsaid."""

    step: str
    node: int
    name: str
    value: float
    measured_on: str
    device: str


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A figure that the plan expects: in its words, in fact, and as this run measured it. measured "": it did not."""

    what: str
    plan: str
    fact: str
    measured: str
    where: str


@dataclass(frozen=True, slots=True)
class Saved:
    """One artifact. `stores`: those that have it, verified by its checksum; `missing`: those that do not."""

    name: str
    bytes: int
    sha256: str
    stores: tuple[str, ...]
    missing: tuple[str, ...] = ()
    files: int = 0  # that it holds, where it is a packed folder

    @property
    def called(self) -> str:
        """Its name, and what it is where that does not say it."""
        return f"{self.name} ({counted(self.files)})" if self.files else self.name


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that failed: how, and the last lines that it printed."""

    step: str
    how: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """A run for a report. `seen` is what `gpuplan status` shows; `until`: its end, or now; no text is escaped yet.

    `gpus_shown` False: a CPU stood in for the cards, and what was sampled of them is no card's.
    planned_usd None: the plan does not say; `uses` is empty where nothing was sampled, `courses` too
    of a run before there were any.
    """

    seen: Snapshot
    until: datetime
    called: str  # the plan, and where it comes from
    outcome: str  # in words; of a run that has not ended, its state
    reason: str
    bill: CostReport
    stretches: tuple[Stretch, ...]
    curve: tuple[tuple[datetime, Decimal], ...]  # what has accrued, machines and volumes; straight between the points
    planned_usd: Decimal | None
    planned_at: tuple[tuple[datetime, Decimal], ...]  # the plan's dollars for the phases that had ended by then
    confirmed_usd: Decimal | None  # as it was estimated when the run was confirmed; None: unknown, or a rehearsal
    verdicts: tuple[Verdict, ...]
    gpus_shown: bool
    uses: tuple[Use, ...]
    courses: tuple[Course, ...]
    measures: tuple[Measure, ...]
    benchmarks: tuple[Benchmark, ...]
    saved: tuple[Saved, ...]
    failures: tuple[Failure, ...]
    events: tuple[tuple[datetime, str], ...]
    kept: tuple[str, ...]  # volumes that go on costing, a line each
    version: str  # of gpuplan
