"""The effects of one phase once it has its machines: its steps, its artifacts, its deliverables, its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from posixpath import normpath
from typing import TypeVar

from orchestrator.engine import accounting, artifacts, records, sources
from orchestrator.engine.board import Board
from orchestrator.engine.books import close_steps
from orchestrator.engine.context import Context
from orchestrator.engine.creation import offer_of
from orchestrator.engine.deliverables import VERIFIED, Deliverables, at_home
from orchestrator.engine.effects import Answer, ManifestFile
from orchestrator.engine.fetching import fetch_all
from orchestrator.engine.limits import LEASE_S
from orchestrator.engine.machines import Machines
from orchestrator.engine.packs import Pack, loose
from orchestrator.engine.provisioning import left_by
from orchestrator.engine.reach import patiently
from orchestrator.engine.transfers import PULL, Transfer
from orchestrator.engine.unpacking import unpacked
from orchestrator.engine.uploads import Uploads
from orchestrator.engine.volumes import Volumes
from orchestrator.plan import fits
from orchestrator.plan.estimate import artifact_makers
from orchestrator.plan.globs import matches, may_meet
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import GpuplanError, Interrupted, MachineLost, OverBudget, StepFailed
from orchestrator.words.lifecycle import Outcome, PhaseState, StepState, worst
from orchestrator.words.model import Phase
from orchestrator.words.store import ArtifactStore

T = TypeVar("T")
HOLD_LOOK_S = 30.0  # real seconds between two looks whether a kept machine's time is over


class PhaseWork:
    """What a phase does to the world."""

    def __init__(self, context: Context, machines: Machines, volumes: Volumes) -> None:
        self._context, self._machines, self._volumes = context, machines, volumes
        self._ledger = context.ledger
        self._uploads = Uploads(context)

    # -- steps -----------------------------------------------------------------------------------------------------

    def begin_steps(self, name: str, attempt: int) -> None:
        """The phase runs; steps that a lost machine left unfinished are pending again."""
        self._ledger.phases.move(self._key(name), PhaseState.RUNNING)
        # What was done on a machine's own disk went with it; what is on a volume (or on the user's host) is there.
        kept = self._context.provider.keeps_data or self._volumes.row(self._phase(name).volume) is not None
        services = {s.id for s in self._context.phase(name).steps if s.step.ready}
        for row in self._ledger.steps.all(run=self._context.run, phase=name):
            again = row.id in services or not kept  # in the first attempt nothing is done yet
            if row.state in (StepState.FAILED, StepState.INTERRUPTED) or (row.state.is_done and not again):
                continue
            key = {"run": self._context.run, "phase": name, "id": row.id}
            self._ledger.steps.move(key, StepState.PENDING, attempt=attempt, ended_at=None)

    def open_steps(self, name: str) -> list[str]:
        """The steps still to do, needs first."""
        rows = {row.id: row for row in self._ledger.steps.all(run=self._context.run, phase=name)}
        return [s.id for s in self._context.phase(name).steps if not rows[s.id].state.is_done]

    # -- collecting ------------------------------------------------------------------------------------------------

    def collect(self, name: str) -> None:
        """The steps have ended: what they made is looked at."""
        self._ledger.phases.move(self._key(name), PhaseState.COLLECTING)

    def manifest(self, name: str) -> list[ManifestFile]:
        """The phase's artifacts with size and sha256; written to manifest.json at home too."""
        patterns = self._phase(name).artifacts
        if not patterns:
            return []
        folders = self._phase(name).pack if self._context.stores else ()  # from a machine each file comes by itself
        alone = self._at_root(name, lambda agent: artifacts.manifest(agent, agent.workspace, patterns, tuple(folders)))
        packs = [self._pack(name, folder) for folder in folders]
        files = artifacts.joined(alone, packs)
        if not files:
            raise StepFailed(f"{name}: no file matches the artifacts {', '.join(patterns)}")
        held = {pack.file.name: pack for pack in packs}
        published = self._at_root(name, lambda agent: records.published(agent, self._context.phase(name).steps))
        if changed := [f.name for f in loose(files, held) if published.get(f.name, f.sha256) != f.sha256]:
            raise StepFailed(
                f"{', '.join(changed)}: not what its step wrote (it published another sha256)",
                remedy="run the step again (--force), or have the step that changes it publish what it wrote",
            )
        made_of = self._at_root(name, lambda agent: sources.gather(self._context, agent))
        self._manifest(name).write_text(artifacts.manifest_text(files, made_of, held))
        self._context.keep(self._manifest(name))
        for pack in packs:
            self._context.event(f"{name}: {pack.said}")
        return files

    def _pack(self, name: str, folder: str) -> Pack:
        """Have the machine lay out the tar of a folder's artifacts. StepFailed: there is none in it."""
        patterns = self._phase(name).artifacts
        found = self._at_root(name, lambda agent: artifacts.pack(agent, patterns, folder))
        if found is None:
            raise StepFailed(f"{name}: no artifact is in {folder}, which is to be packed")
        return found

    def makers(self, name: str) -> list[str]:
        """The steps whose artifacts go to the stores while others run: where no machine with a GPU would be waited for.

        There the upload shares nothing with what is measured.
        """
        run = self._context.phase(name)
        if name not in self._context.spec.staged or not self._context.stores:
            return []
        return list(artifact_makers(run.phase, run.steps))

    def made(self, name: str, step: str, board: Board) -> list[ManifestFile]:
        """Wait for a step; its artifacts as they are then. []: it comes to no good end, or makes none."""
        ended = board.wait_for(lambda states: states[step] if states[step].has_ended else None)
        run = next(run for run in self._context.phase(name).steps if run.id == step)
        if not ended.is_done:
            return []
        root, patterns, folders = normpath(run.step.cwd), self._phase(name).artifacts, tuple(self._phase(name).pack)
        found = self._at_root(
            name,
            lambda agent: artifacts.manifest(agent, agent.workspace, tuple(_below(root, run.step.creates)), folders),
        )
        alone = [file for file in found if any(matches(file.name, pattern) for pattern in patterns)]
        whole = [folder for folder in folders if self._fillers(name, folder) == [step]]
        return artifacts.joined(alone, [self._pack(name, folder) for folder in whole])

    def _fillers(self, name: str, folder: str) -> list[str]:
        """The steps that say that they create what may be in a folder: it is whole when all of them have ended."""
        steps = self._context.phase(name).steps
        made = {run.id: _below(normpath(run.step.cwd), run.step.creates) for run in steps}
        return [step for step, globs in made.items() if any(may_meet(glob, f"{folder}/") for glob in globs)]

    def upload(self, name: str, store: ArtifactStore, files: list[ManifestFile]) -> None:
        """Some files to one store."""
        listed = self._listed(name)  # what steps send while others run is there before the whole list
        transfer = self._uploads.transfer(name, store, listed or files, is_all=bool(listed))
        tars = {f"{folder}.tar" for folder in self._phase(name).pack}
        self._at_root(name, lambda agent: self._uploads.send_all(store, agent, agent.workspace, files, transfer, tars))

    def put_manifest(self, name: str, store: ArtifactStore) -> None:
        """The manifest goes last: where it is, everything is."""
        file = self._manifest(name)
        self._patiently(partial(store.put_text, file.name, file.read_text()))

    def pull(self, name: str, files: list[ManifestFile]) -> str:
        """Fetch the artifacts home from the machine, if the phase says so; return the folder."""
        if not self._phase(name).pull_to:
            return ""
        workspace, home = self._at_root(name, lambda agent: agent.workspace), self._home(name)
        transfer = Transfer(self._context, name, PULL, str(home))
        transfer.expect({file.name: file.bytes for file in files})
        for file in files:
            arrived = partial(transfer.arrived, file.name)
            artifacts.pull(self._context, self._root(name), workspace, file, home, arrived)
            transfer.whole(file.name)
        return str(home)

    def bring_home(self, name: str) -> Outcome:
        """Fetch home from the store what the phase has saved there: no machine is paid for meanwhile. Never raises."""
        context, phase = self._context, self._phase(name)
        files = self._saved(name)
        if not files:
            return Outcome.SUCCEEDED
        home, outcome = artifacts.Home(self._home(name), context.folder.parent), Outcome.FAILED
        try:
            transfer = Transfer(context, name, PULL, str(home.folder))
            transfer.expect({file.name: file.bytes for file in files})
            fetch_all(
                context.stores[0], files, home, context.clock, check=context.control.check, arrived=transfer.arrived,
                said=lambda file, _how: transfer.whole(file.name), unpacked=unpacked(self._packs(name)),
            )  # fmt: skip
            at_home(context, phase, files, home.folder, self._packs(name))
        except (Interrupted, OverBudget) as error:
            outcome = Outcome.INTERRUPTED if isinstance(error, Interrupted) else Outcome.OVER_BUDGET
            why = error.message
        except (GpuplanError, OSError) as error:
            why = str(error)
        else:
            return Outcome.SUCCEEDED
        why = f"not all of it is in {home.folder}: {why}; gpuplan pull {context.run} goes on with it"
        context.event(f"{name}: {why}")
        mine, run = self._ledger.phases.get(**self._key(name)), self._ledger.runs.get(id=context.run)
        self._ledger.phases.change(self._key(name), outcome=worst([mine.outcome or outcome, outcome]), error=why)
        self._ledger.runs.change({"id": run.id}, outcome=worst([run.outcome or outcome, outcome]))
        return outcome

    def _saved(self, name: str) -> list[ManifestFile]:
        """What the phase has made, if all of it is verified in the store that it comes home from."""
        files = self._listed(name)
        url = self._context.stores[0].url
        rows = self._ledger.artifacts.all(run=self._context.run, store=url, state=VERIFIED)
        return files if {f.name for f in files} <= {row.name for row in rows} else []

    def judge(self, name: str, files: list[ManifestFile]) -> list[Answer]:
        """Every deliverable of the phase."""

        def ask(agent: Agent) -> list[Answer]:
            judge = Deliverables(self._context, self._phase(name), agent, agent.workspace)
            return judge.judge(files, None if self._context.stores else self._home(name), self._packs(name))

        return self._at_root(name, ask)

    # -- the end ---------------------------------------------------------------------------------------------------

    def tear_down(self, name: str, outcome: Outcome, why: str) -> None:
        """Note the outcome, and end the phase's machines but for those that a coming phase may take over."""
        self._hold(name, outcome)
        self._ledger.phases.move(self._key(name), PhaseState.TEARING_DOWN, outcome=outcome, error=why)
        if why:
            self._context.event(f"{name}: {outcome}: {why}", minor=True)  # the phase's own line says it
        close_steps(self._ledger, self._context.run, name)
        self._release(name)
        held = self._ledger.charges.all(run=self._context.run, phase=name, until=None)
        keep = self._wanted_later(name, outcome)
        self._machines.destroy_all([c.machine for c in held if c.machine not in keep], f"{name}: {outcome}")

    def _hold(self, name: str, outcome: Outcome) -> None:
        """Keep the machines of a step that failed for as long as was asked, for whoever wants to look; they cost.

        From the failure on, whoever drives the run. A budget, the phase's time-out and `gpuplan down` end it before.
        """
        context, run = self._context, self._context.run
        failed = self._ledger.steps.all(run=run, phase=name, state=StepState.FAILED)
        held = self._ledger.charges.all(run=run, phase=name, until=None)
        if not context.spec.hold_s or outcome != Outcome.FAILED or not failed or not held:
            return
        rate = accounting.usd_hour(self._ledger, run, name)
        if not rate:  # the user's own host stays anyway
            return
        until = max(step.ended_at or context.now() for step in failed) + context.clock.real(context.spec.hold_s)
        context.event(
            f"{failed[0].id} failed: what it ran on is kept for {context.spec.hold_s / 60:g} min, ${rate:.2f} an hour: "
            f"gpuplan ssh {run} looks at it, gpuplan down {run} ends it now"
        )
        while (left := until - context.now()) > 0 and not context.control.stopping:
            context.control.pause(min(left, HOLD_LOOK_S))

    def finish(self, name: str) -> None:
        """The phase is done; what could not be ended is ended (or shouted about) by the run."""
        self._ledger.phases.move(self._key(name), PhaseState.DONE, ended_at=self._context.now())

    def _release(self, name: str) -> None:
        volume, row = self._phase(name).volume, self._context.root(name)
        if not volume or not row:
            return
        root = row.name
        try:
            self._context.agents.let_go(root)
            self._context.agents(root).lease(volume.name, self._context.run, LEASE_S, "release")
        except GpuplanError as error:
            self._context.event(f"{name}: the lease on {volume.name} runs out by itself: {error.message}")

    def _wanted_later(self, name: str, outcome: Outcome) -> set[str]:
        """The machine that the next phase takes over, if it fits."""
        names = [p.phase.name for p in self._context.phases]
        later = names[names.index(name) + 1 :]
        row = self._context.root(name)
        if outcome != Outcome.SUCCEEDED or not later or not row or left_by(self._context, later[0]) != name:
            return set()
        return {row.name} if fits(self._context.crews(later[0])[0].need, offer_of(row)) else set()

    # -- small parts -----------------------------------------------------------------------------------------------

    def _phase(self, name: str) -> Phase:
        return self._context.phase(name).phase

    def _key(self, name: str) -> dict[str, object]:
        return {"run": self._context.run, "name": name}

    def _manifest(self, name: str) -> Path:
        """The manifest at home."""
        return self._context.folder / f"manifest-{name}.json"

    def _listed(self, name: str) -> list[ManifestFile]:
        """All of the phase's artifacts, as `manifest` wrote them down; []: it has not yet."""
        manifest = self._manifest(name)
        return artifacts.manifest_files(manifest.read_text()) if manifest.exists() else []

    def _packs(self, name: str) -> dict[str, Pack]:
        """What the tars among them hold."""
        manifest = self._manifest(name)
        return artifacts.manifest_packs(manifest.read_text()) if manifest.exists() else {}

    def _home(self, name: str) -> Path:
        """Where the phase's artifacts are pulled to."""
        return (Path(self._context.spec.pull_root) / (self._phase(name).pull_to or ".")).resolve()

    def _root(self, name: str) -> str:
        row = self._context.root(name)
        if row is None:
            raise MachineLost(f"{name} has no machine any more")
        return row.name

    def _at_root(self, name: str, body: Callable[[Agent], T]) -> T:
        """Do what needs the root machine's agent, through every cut of the connection."""
        root = self._root(name)
        return self._machines.reaching(root, lambda: body(self._context.agents(root)))

    def _patiently(self, call: Callable[[], T]) -> T:
        return patiently(self._context.clock, call, check=self._context.control.check)


def _below(root: str, patterns: tuple[str, ...]) -> list[str]:
    """What a step creates, named from the workspace."""
    return [normpath(f"{root}/{pattern}") for pattern in patterns]
