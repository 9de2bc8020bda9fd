"""What every part of the engine works with: the frozen run, the ledger, and the adapters behind their ports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from orchestrator.engine.control import Control
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import MachineRow
from orchestrator.plan import Crew, PhaseRun, accepted_keys, bare, crews_of, done_keys, resolve
from orchestrator.plan.crews import Name
from orchestrator.transport.agent import Agent
from orchestrator.transport.job_replies import Progress
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.model import Input, MachineNeed
from orchestrator.words.provider import Provider
from orchestrator.words.secret import Secret
from orchestrator.words.source import Source
from orchestrator.words.spec import RunSpec
from orchestrator.words.store import ArtifactStore
from orchestrator.words.waiting import Clock


class Agents(Protocol):
    """Connections to this run's machines, by name; opened at the first use, again after a crash."""

    def __call__(self, machine: str) -> Agent:
        """The machine's agent; ConnectionLost when it cannot be reached."""
        ...

    def hold(self, machine: str, volume: str) -> None:
        """Keep renewing this run's lease on a volume, through that machine."""
        ...

    def let_go(self, machine: str) -> None:
        """Renew no lease through that machine any more."""
        ...

    def drop(self, machine: str) -> None:
        """Close the connection of a machine that is no more."""
        ...

    def forget(self, machine: str) -> None:
        """Close the connection of a machine that was restarted: at the next use it is a new one."""
        ...


class Hub(Protocol):
    """The model hub's own list of a repository's files."""

    def commit(self, repo: str, revision: str) -> str:
        """The commit that this branch or tag means now."""
        ...

    def listing(self, repo: str, commit: str) -> list[tuple[str, int, str | None]]:
        """Path, bytes and sha256 (None: a small file, which the hub lists without one)."""
        ...


class Code(Protocol):
    """The plan's code."""

    @property
    def hash(self) -> str:
        """The name of its content; "": there is none."""
        ...

    @property
    def files(self) -> Mapping[str, str]:
        """Path -> sha256."""
        ...

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        ...

    def push(self, agent: Agent, *, kept: bool, sent: Callable[[int], None] = ...) -> str:
        """Bring exactly this to the machine, but for `kept`: one that is there stays as it is; its folder there.

        `sent` hears how many bytes are on their way, each time that there are more.
        """
        ...


def no_source(one: Input) -> Source:
    """In a world without stores that machines fetch from."""
    raise UsageError(f"{one.source}: there is no store here to fetch from")


@dataclass
class Context:
    """One run in this process."""

    spec: RunSpec
    folder: Path
    ledger: Ledger
    provider: Provider
    clock: Clock
    control: Control
    agents: Agents
    code: Code
    hub: Hub
    stores: list[ArtifactStore]
    public_key: str
    secrets: Mapping[str, Secret]
    source: Callable[[Input], Source] = no_source  # what a phase fetches
    world_env: Mapping[str, str] = field(default_factory=dict)  # what the world adds to every step's environment
    log: Callable[[str, str], None] = lambda _step, _text: None  # a step's new output, for whoever looks on
    progress: Callable[[str, Progress], None] = lambda _step, _progress: None  # how far a step says it is, likewise
    keep: Callable[[Path], None] = lambda _file: None  # a file of the run's folder that others need who go on with it
    announce: Callable[[str, str, str], None] = lambda _id, _state, _machine: None  # a step's, started or ended, where

    @property
    def run(self) -> str:
        """The run's id."""
        return self.spec.run

    @cached_property
    def phases(self) -> tuple[PhaseRun, ...]:
        """The phases that were asked for, with the steps that each one runs."""
        return resolve(self.spec.plan, self.spec.asked)

    def phase(self, name: str) -> PhaseRun:
        """The phase of that name (KeyError: it was not asked for)."""
        return {p.phase.name: p for p in self.phases}[name]

    def need(self, name: str) -> MachineNeed:
        """The machine that the phase is to have: one without GPU where nothing of it is left to run."""
        machine = self.phase(name).phase.machine
        return bare(machine) if name in self.spec.looked_at else machine

    def crews(self, name: str) -> tuple[Crew, ...]:
        """The phase's crews; the first is there as long as the phase is."""
        return crews_of(self.phase(name), self.need(name), staged=name in self.spec.staged)

    def crew_of(self, phase: str, *, gpus: int) -> Crew:
        """The crew of the phase that a machine with so many GPUs is of; of those with GPUs, the one that came last."""
        staging = phase in self.spec.staged and not gpus
        return self.crews(phase)[0 if staging else -1]

    @cached_property
    def keys(self) -> dict[str, str]:
        """Step id -> the key of its done-record."""
        return done_keys(self.spec.plan, self.code.files)

    @cached_property
    def accepted(self) -> dict[str, frozenset[str]]:
        """Step id -> the keys of every done-record that holds: what an earlier version recorded may be as good."""
        return accepted_keys(self.spec.plan, self.code.files)

    def now(self) -> float:
        """Unix seconds on the ledger's line: what is written down, and what is compared with it."""
        return self.ledger.now()

    def event(self, text: str, *, minor: bool = False) -> None:
        """Note something worth reading later; `minor`: only by who looks closely."""
        self.ledger.event(self.run, text, minor=minor)

    def machines(self, phase: str, state: MachineState = MachineState.REACHABLE) -> list[MachineRow]:
        """The machines that the phase pays for and that are in this state, of all its crews, by node."""
        held = {c.machine for c in self.ledger.charges.all(run=self.run, phase=phase, until=None)}
        rows = self.ledger.machines.all(run=self.run, state=state)
        return sorted((r for r in rows if r.name in held), key=lambda r: r.node)

    def of_crew(self, phase: str, crew: Crew, state: MachineState = MachineState.REACHABLE) -> list[MachineRow]:
        """Those of them that are this crew's, by node."""
        return [row for row in self.machines(phase, state) if row.node in crew.nodes and self._is_of(phase, row, crew)]

    def root(self, phase: str) -> MachineRow | None:
        """The machine that is there as long as the phase is; None: it is not, now."""
        return next(iter(self.of_crew(phase, self.crews(phase)[0])), None)

    def beside(self, phase: str, crew: Crew) -> list[MachineRow]:
        """The machines that a step of this crew has to do with, by node: what it sees as the phase's nodes."""
        return [row for row in self.machines(phase) if self._is_of(phase, row, crew)]

    def _is_of(self, phase: str, row: MachineRow, crew: Crew) -> bool:
        """Whether the machine is on the crew's side of a staged phase: a staging machine is one without GPU."""
        return phase not in self.spec.staged or (row.gpus == 0) == (crew.name is Name.STAGING)
