"""One plan in one world on one clock: the story as it runs for real, over the emulated clouds' own code, in memory.

A bench outlives the controllers that drive it, as clouds and machines outlive a process: `controller()` is a new
process of gpuplan that finds the ledger and the workflows' records that the one before it left.
"""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.engine.books import close_books, open_books
from orchestrator.engine.context import Context
from orchestrator.engine.control import LOOK_S, Control, Watch
from orchestrator.engine.effects import RunEnd
from orchestrator.engine.leftovers import reserve
from orchestrator.engine.limits import Limits
from orchestrator.engine.reaper import Reaped, reap
from orchestrator.engine.story import Story
from orchestrator.engine.version import APPLICATION_VERSION
from orchestrator.engine.watchdog import Watchdog
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import RunRow
from orchestrator.plan import may_stage, resolve
from orchestrator.providers import open_provider
from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.in_process import InProcessClouds, Machine
from orchestrator.testing.changes import WatchedLedger, Watchers, Wire
from orchestrator.testing.clock import ManualClock
from orchestrator.testing.files import Disk
from orchestrator.testing.machine import Door, Script, ScriptedMachine
from orchestrator.testing.recorder import MemoryRecorder, Records, Trigger
from orchestrator.testing.store import MemorySource, MemoryStore
from orchestrator.testing.traffic import Traffic
from orchestrator.transport.agent import Agent
from orchestrator.words.access import ProviderAccess
from orchestrator.words.errors import ConnectionLost
from orchestrator.words.lifecycle import RunState
from orchestrator.words.model import Plan
from orchestrator.words.provider import Provider
from orchestrator.words.spec import RunSpec, WorldSpec
from orchestrator.words.store import ArtifactStore

OWNER = "benchown"
RUN, EARLIER = "1102-test", "1102-then"


@dataclass(frozen=True, slots=True)
class World:
    """What a bench is made of. `scripts`: command -> what it does; `faults`: NAME or NAME@ARG of the clouds'."""

    provider: str = "runpod"
    scripts: Mapping[str, Script] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    stores: int = 0
    bucket: str = "memory"  # what its stores' URLs begin with: "gs" is a store of Google's kind
    rates: Mapping[str, float] = field(default_factory=dict)  # MB/s of what scripts move; {}: bytes take no time
    sizes: Mapping[str, float] = field(default_factory=dict)  # path below the workspace -> GB that a file stands for
    watched: bool = False  # budgets and time-outs act: it costs a look each `look_s`
    look_s: float = LOOK_S
    place: str | None = "EU-RO-1"
    spot: bool = False
    # Repository -> commit -> its files; main is the first commit, after `hub_moves` looks at it the last one.
    hub: Mapping[str, Mapping[str, list[tuple[str, int, str | None]]]] = field(default_factory=dict)
    hub_moves: int = 1000
    sources: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)  # address -> what lies below it


class Bench:
    """See above. `folder` is where the ledger and the run's files lie.

    `watchers` are told of each change that outlives a process, in the thread that made it: there it can die.
    """

    def __init__(self, plan: Plan, asked: tuple[str, ...], world: World, folder: Path, seed: int = 0) -> None:
        self.world, self.folder = world, folder
        self.watchers = Watchers()
        self.clock = ManualClock(seed)
        self.records = Records()
        self.faults = Switchboard()
        told, stores = self.watchers.tell, range(world.stores)
        self.stores = [MemoryStore(f"{world.bucket}://store{n}", self.faults, told) for n in stores]
        self.sources = {url: MemorySource(url, dict(objects)) for url, objects in world.sources.items()}
        self.traffic = Traffic(self.clock, world.rates, world.sizes) if world.rates else None
        self._disks: dict[str, Disk] = {}
        self._doors: dict[str, Door] = {}
        self.machines: dict[str, ScriptedMachine] = {}  # by id; those that are up
        self._down: dict[str, ScriptedMachine] = {}  # those that were
        self.host = self._scripted(Disk(), ()) if world.provider == "ssh-host" else None
        self.clouds = InProcessClouds(
            self.clock,
            seed=seed,
            faults=world.faults,
            switchboard=self.faults,
            on_machine=self._booted,
            on_machine_end=self._ended,
            on_cut=self._cut,
            on_hang=lambda machine_id: self.machines[machine_id].hang(),
        )
        self.clock.move_with(lambda: self.clouds.next_change, self.clouds.advance)
        self.spec = RunSpec(
            run=RUN,
            owner=OWNER,
            plan=plan,
            asked=asked,
            whole_plan=len(asked) == len(plan.phases),
            world=WorldSpec(provider=world.provider),
            place=world.place,
            staged=() if self.host else staged_in(plan, asked),
            spot=world.spot,
            stores=tuple(s.url for s in self.stores),
            pull_root=str(folder / "pulled"),
            created_at=self.clock.now().timestamp(),
        )

    # -- what the clouds tell --------------------------------------------------------------------------------------

    def _booted(self, machine: Machine) -> None:
        disk = self._disks.setdefault(machine.spec.volume or machine.spec.id, Disk())
        up = self.machines[machine.spec.id] = self._scripted(disk, (machine.spec.gpu,) * machine.spec.gpus)
        if machine.again:
            up.go_on_from(self._down[machine.spec.id])
        elif machine.spec.id in self._down and not machine.spec.volume:
            disk.files.clear()

    def _ended(self, machine_id: str) -> None:
        if (machine := self.machines.pop(machine_id, None)) is not None:
            machine.end()
            self._down[machine_id] = machine

    def _cut(self, machine_id: str) -> None:
        self.machines[machine_id].cuts += 1

    def _scripted(self, disk: Disk, gpus: tuple[str, ...]) -> ScriptedMachine:
        machine = ScriptedMachine(
            self.clock, disk, self.world.scripts, gpus=gpus, put=self._put, traffic=self.traffic, doors=self._doors,
            changed=self.watchers.tell, faults=self.faults,
        )  # fmt: skip
        machine.get = lambda url, tag: next(s for s in self.sources.values() if url.startswith(f"{s.url}/")).get(
            url, tag
        )
        return machine

    def _put(self, url: str, data: bytes) -> int:
        return next(s for s in self.stores if url.startswith(f"{s.url}/")).put(url, data)

    # -- a process of gpuplan --------------------------------------------------------------------------------------

    def controller(self) -> Controller:
        """A new process of gpuplan."""
        return Controller(self)

    def ledger(self) -> Ledger:
        """The ledger as it lies on disk."""
        return Ledger(f"sqlite:///{self.folder / 'gpuplan.db'}", lambda: self.clock.now().timestamp())

    def runs(self) -> Counter[str]:
        """How often each command was begun, on any disk."""
        disks = [*self._disks.values(), *([self.host.disk] if self.host else [])]
        return Counter(command for disk in disks for command in disk.runs)

    def repeated(self) -> Counter[str]:
        """How often each step began again although its done-record was there: PHASE.STEP."""
        disks = [*self._disks.values(), *([self.host.disk] if self.host else [])]
        return Counter(step for disk in disks for step in disk.repeated)

    def creates(self) -> list[str]:
        """The names of all machines that were ever created, in order."""
        return [str(e["name"]) for e in self.clouds.log() if e["action"] == "create-machine"]

    def live_earlier(self, asked: tuple[str, ...]) -> None:
        """Have an earlier run of the same plan do these phases."""
        mine, self.spec = self.spec, self.spec.model_copy(update={"run": EARLIER, "asked": asked, "whole_plan": False})
        self.controller().run()
        self.spec = mine.model_copy(update={"created_at": self.clock.now().timestamp()})

    def beside(self, run: str, folder: Path, **spec: object) -> Bench:
        """Another run in the same clouds at the same time, of that home; `spec`: what else of it is another."""
        other = copy.copy(self)
        other.folder, other.records = folder, Records()
        other.spec = self.spec.model_copy(update={"run": run, "pull_root": str(folder / "pulled"), **spec})
        return other

    def reap(self) -> Reaped:
        """`gpuplan reap` on another computer of the same owner, in a home that knows nothing."""
        return reap([_provider(self)], self.clock, self.spec.owner, frozenset(), lambda _volume: False)

    def copy_to(self, folder: Path) -> None:
        """Copy everything that is on disk."""
        shutil.copytree(self.folder, folder)

    def go_on_in(self, folder: Path) -> None:
        """After a fork: go on with that copy."""
        self.folder = folder
        self.clock.forget_threads()


class Controller:
    """One process of gpuplan that drives the bench's run."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        clock = bench.clock
        file = f"sqlite:///{bench.folder / 'gpuplan.db'}"
        self.ledger = WatchedLedger(file, lambda: clock.now().timestamp(), bench.watchers.tell)
        provider = _provider(bench)
        folder = bench.folder / "runs" / bench.spec.run
        folder.mkdir(parents=True, exist_ok=True)
        reserve(folder)
        self.context = Context(
            spec=bench.spec,
            folder=folder,
            ledger=self.ledger,
            provider=provider,
            clock=clock,
            agents=BenchAgents(bench, self.ledger, provider),
            code=NoCode(),
            hub=BenchHub(bench.world.hub, bench.world.hub_moves),
            stores=list[ArtifactStore](bench.stores),
            source=lambda one: bench.sources[one.source],
            public_key="ssh-ed25519 AAAA bench",
            secrets={},
            control=Control(clock),
            announce=self._announce,
        )

    def run(self, trigger: Trigger = lambda _workflow, _effect, _when: None) -> RunEnd:
        """Begin the run, or go on with it, and bring it to its end."""
        bench, runs = self.bench, self.ledger.runs
        spec, records = bench.spec, bench.records
        if runs.maybe(id=spec.run) is None:
            row = RunRow(id=spec.run, state=RunState.PLANNED, version=APPLICATION_VERSION, created_at=spec.created_at)
            open_books(self.ledger, spec, row)
        story, before = Story(self.context), runs.get(id=spec.run).state
        if spec.run in records.results:
            return story.ending.again()
        self.ledger.runs.change(
            {"id": spec.run}, stop=""
        )  # as runner.drive: what stopped the one before does so no more
        watch = watchdog = None
        if bench.world.watched:
            watchdog = Watchdog(self.context, bench.world.look_s)
            limits = Limits(self.ledger, spec, bench.clock)
            watch = Watch(bench.clock, self.context.control, limits.reason, bench.world.look_s)

        def told(workflow: str, effect: str, when: str) -> None:
            trigger(workflow, effect, when)
            if when == "after":
                bench.watchers.tell(f"{workflow}: {effect}")

        end: RunEnd = MemoryRecorder(records, story, bench.clock, spec.run, told).run()
        if watch and watchdog:
            watch.end()
            watchdog.end()
        return story.ending.again() if before == RunState.TEARING_DOWN and end.left else end

    def down(self) -> list[str]:
        """`gpuplan down`: end what the run left; what could not be ended, in words."""
        if self.ledger.runs.maybe(id=self.bench.spec.run) is None:
            return []
        ending = Story(self.context).ending
        left = ending.end_machines("gpuplan down")
        ending.settle()
        if not left:
            close_books(self.ledger, self.bench.spec.run)
        return left

    def _announce(self, step: str, state: str, machine: str) -> None:
        if state == "started" and not self.bench.host:
            self.bench.clouds.step_started(step, machine)


class BenchAgents:
    """`engine.context.Agents` over the bench's machines."""

    def __init__(self, bench: Bench, ledger: Ledger, provider: Provider) -> None:
        self._bench, self._ledger, self._provider = bench, ledger, provider

    def __call__(self, machine: str) -> Agent:
        """See engine.context.Agents."""
        row = self._ledger.machines.get(name=machine)
        found = self._bench.host or self._bench.machines.get(row.provider_id)
        if found is None:
            raise ConnectionLost(f"{machine}: nobody answers")
        agent = Agent(found, workspace=self._provider.mount_path)
        agent.hello()
        return agent

    def hold(self, machine: str, volume: str) -> None:
        """See engine.context.Agents. The bench's leases last."""

    def let_go(self, machine: str) -> None:
        """See engine.context.Agents."""

    def drop(self, machine: str) -> None:
        """See engine.context.Agents."""

    def forget(self, machine: str) -> None:
        """See engine.context.Agents."""


class NoCode:
    """`engine.context.Code` with nothing in it."""

    hash = ""
    files: Mapping[str, str] = {}
    bytes = 0

    def push(self, agent: Agent, *, kept: bool, sent: object = None) -> str:
        """See engine.context.Code."""
        raise AssertionError("there is nothing to send")


@dataclass(frozen=True)
class BenchHub:
    """`engine.context.Hub`."""

    repositories: Mapping[str, Mapping[str, list[tuple[str, int, str | None]]]]
    moves: int  # after so many looks, its newest commit is the last one

    looks: list[str] = field(default_factory=list)

    def commit(self, repo: str, revision: str) -> str:
        """See engine.context.Hub. A revision that is a commit is that one; every other one is the newest."""
        self.looks.append(repo)
        commits = self.repositories[repo]
        newest = list(commits)[-1 if len(self.looks) > self.moves else 0]
        return revision if revision in commits else newest

    def listing(self, repo: str, commit: str) -> list[tuple[str, int, str | None]]:
        """See engine.context.Hub."""
        return self.repositories[repo][commit]


def staged_in(plan: Plan, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The phases that a real run would stage, where CPU machines are sold."""
    return tuple(run.phase.name for run in resolve(plan, asked) if may_stage(run)) if asked else ()


def _provider(bench: Bench) -> Provider:
    if bench.host:
        return open_provider("ssh-host", ProviderAccess(base_url="root@127.0.0.1:22", owner=OWNER))
    access = bench.clouds.access(bench.world.provider, public_key="k", owner=bench.spec.owner)
    assert access.transport
    wire = Wire(access.transport, bench.watchers)
    return open_provider(bench.world.provider, replace(access, transport=wire))
