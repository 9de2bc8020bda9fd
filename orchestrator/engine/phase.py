"""The effects of one phase once it has its machines: its steps, its artifacts, its deliverables, its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

from orchestrator.engine import artifacts, records
from orchestrator.engine.books import close_steps
from orchestrator.engine.context import Context
from orchestrator.engine.creation import offer_of
from orchestrator.engine.deliverables import Deliverables
from orchestrator.engine.effects import Answer, ManifestFile
from orchestrator.engine.limits import LEASE_S
from orchestrator.engine.machines import Machines
from orchestrator.engine.reach import patiently
from orchestrator.engine.uploads import Uploads
from orchestrator.engine.volumes import Volumes
from orchestrator.plan import fits
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import GpuplanError, MachineLost, StepFailed
from orchestrator.words.lifecycle import Outcome, PhaseState, StepState
from orchestrator.words.model import Phase
from orchestrator.words.ports import ArtifactStore

T = TypeVar("T")


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
            again = attempt > 1 and (row.id in services or not kept)
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
        files = self._at_root(name, lambda agent: artifacts.manifest(agent, agent.workspace, patterns))
        if not files:
            raise StepFailed(f"{name}: no file matches the artifacts {', '.join(patterns)}")
        published = self._at_root(name, lambda agent: records.published(agent, self._context.phase(name).steps))
        if changed := [f.name for f in files if published.get(f.name, f.sha256) != f.sha256]:
            raise StepFailed(
                f"{', '.join(changed)}: not what its step wrote (it published another sha256)",
                remedy="run the step again (--force), or have the step that changes it publish what it wrote",
            )
        (self._context.folder / f"manifest-{name}.json").write_text(_as_json(files))
        return files

    def upload(self, name: str, store: ArtifactStore, files: list[ManifestFile]) -> None:
        """Some files to one store."""
        transfer = self._uploads.transfer(name, store, self._listed(name))
        self._at_root(name, lambda agent: self._uploads.send_all(store, agent, agent.workspace, files, transfer))

    def put_manifest(self, name: str, store: ArtifactStore, files: list[ManifestFile]) -> None:
        """The manifest goes last: where it is, everything is."""
        self._patiently(partial(store.put_text, f"manifest-{name}.json", _as_json(files)))

    def pull(self, name: str, files: list[ManifestFile]) -> str:
        """Fetch the artifacts home, if the phase says so; return the folder."""
        if not self._phase(name).pull_to:
            return ""
        workspace = self._at_root(name, lambda agent: agent.workspace)
        for file in files:
            artifacts.pull(self._context, self._root(name), workspace, file, self._home(name))
        return str(self._home(name))

    def judge(self, name: str, files: list[ManifestFile]) -> list[Answer]:
        """Every deliverable of the phase."""

        def ask(agent: Agent) -> list[Answer]:
            judge = Deliverables(self._context, self._phase(name), agent, agent.workspace)
            return judge.judge(files, self._home(name))

        return self._at_root(name, ask)

    # -- the end ---------------------------------------------------------------------------------------------------

    def tear_down(self, name: str, outcome: Outcome, why: str) -> None:
        """Note the outcome, and end the phase's machines but for those that a coming phase may take over."""
        self._ledger.phases.move(self._key(name), PhaseState.TEARING_DOWN, outcome=outcome, error=why)
        if why:
            self._context.event(f"{name}: {outcome}: {why}", minor=True)  # the phase's own line says it
        close_steps(self._ledger, self._context.run, name)
        self._release(name)
        held = self._ledger.charges.all(run=self._context.run, phase=name, until=None)
        keep = self._wanted_later(name, outcome)
        self._machines.destroy_all([c.machine for c in held if c.machine not in keep], f"{name}: {outcome}")

    def finish(self, name: str) -> None:
        """The phase is done; what could not be ended is ended (or shouted about) by the run."""
        self._ledger.phases.move(self._key(name), PhaseState.DONE, ended_at=self._context.now())

    def _release(self, name: str) -> None:
        volume, rows = self._phase(name).volume, self._context.machines(name)
        if not volume or not rows:
            return
        root = rows[0].name
        try:
            self._context.agents.let_go(root)
            self._context.agents(root).lease(volume.name, self._context.run, LEASE_S, "release")
        except GpuplanError as error:
            self._context.event(f"{name}: the lease on {volume.name} runs out by itself: {error.message}")

    def _wanted_later(self, name: str, outcome: Outcome) -> set[str]:
        """The machines that the next phase takes over: as many as it needs, if they fit."""
        names = [p.phase.name for p in self._context.phases]
        later = self._context.phases[names.index(name) + 1 :]
        if outcome != Outcome.SUCCEEDED or not later or later[0].phase.machine.reuse != name:
            return set()
        need = self._context.need(later[0].phase.name)
        rows = self._context.machines(name)[: need.nodes]
        fitting = len(rows) == need.nodes and all(fits(need, offer_of(row)) for row in rows)
        return {row.name for row in rows} if fitting else set()

    # -- small parts -----------------------------------------------------------------------------------------------

    def _phase(self, name: str) -> Phase:
        return self._context.phase(name).phase

    def _key(self, name: str) -> dict[str, object]:
        return {"run": self._context.run, "name": name}

    def _listed(self, name: str) -> list[ManifestFile]:
        """All of the phase's artifacts, as `manifest` wrote them down."""
        text = (self._context.folder / f"manifest-{name}.json").read_text()
        return [ManifestFile(**said) for said in json.loads(text)]

    def _home(self, name: str) -> Path:
        """Where the phase's artifacts are pulled to."""
        return (Path(self._context.spec.pull_root) / (self._phase(name).pull_to or ".")).resolve()

    def _root(self, name: str) -> str:
        rows = self._context.machines(name)
        if not rows:
            raise MachineLost(f"{name} has no machine any more")
        return rows[0].name

    def _at_root(self, name: str, body: Callable[[Agent], T]) -> T:
        """Do what needs the root machine's agent, through every cut of the connection."""
        root = self._root(name)
        return self._machines.reaching(root, lambda: body(self._context.agents(root)))

    def _patiently(self, call: Callable[[], T]) -> T:
        return patiently(self._context.clock, call, check=self._context.control.check)


def _as_json(files: list[ManifestFile]) -> str:
    return json.dumps([asdict(file) for file in files], indent=1)
