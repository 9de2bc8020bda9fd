"""The effects of one phase: everything that its story records, as a function that may run again after a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.engine import agreement, artifacts
from orchestrator.engine.context import Context, now
from orchestrator.engine.deliverables import Deliverables
from orchestrator.engine.effects import Answer, ManifestFile
from orchestrator.engine.machines import Machines, each
from orchestrator.engine.uploads import Uploads
from orchestrator.engine.volumes import Volumes
from orchestrator.ledger import tables
from orchestrator.ledger.rows import MachineRow
from orchestrator.plan import candidates, fits, memory_of
from orchestrator.transport.agent import Agent
from orchestrator.transport.replies import LeaseHeld
from orchestrator.words.errors import GpuplanError, MachineLost, ProviderUnavailable, StepFailed
from orchestrator.words.lifecycle import Outcome, PhaseState, RunState, StepState
from orchestrator.words.model import Phase
from orchestrator.words.ports import ArtifactStore, Offer
from orchestrator.words.retry import retrying

LEASE_S = 180.0  # real seconds without renewal after which another run may take the volume
SPARE_S = 3600.0  # between the last phase's time-out and the machine's deadline
GOOD = (StepState.DONE, StepState.UP_TO_DATE)
UNFINISHED = (StepState.PENDING, StepState.RUNNING, StepState.READY, StepState.LOST, StepState.SKIPPED)


class PhaseWork:
    """What a phase does to the world."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ledger = context.ledger
        self.machines = Machines(context)
        self.volumes = Volumes(context)
        self._uploads = Uploads(context)

    def move(self, name: str, state: PhaseState, **values: Any) -> None:
        """Move the phase; a state that it has left already is passed over."""
        key = {"run": self._context.run, "name": name}
        if state == PhaseState.PROVISIONING and self._ledger.one(tables.phases, **key)["started_at"] is None:
            values["started_at"] = now()
        self._ledger.move(tables.phases, key, state, **values)

    # -- provisioning ----------------------------------------------------------------------------------------------

    def volume(self, name: str) -> str:
        """The name of the phase's volume, made if need be; "": it has none."""
        self._context.control.check()
        need = self._phase(name).volume
        found = self.volumes.ensure(need) if need else ""
        if found:
            self._ledger.put(tables.volume_uses, volume=found, run=self._context.run)
        return found

    def take_over(self, name: str) -> bool:
        """Go on with what the phase holds, or take over the machines of the phase that `reuse` names, if they fit."""
        need = self._phase(name).machine
        if len(self._context.machines(name)) >= need.nodes:
            return True  # a crash came after the last of them was taken over
        reuse = need.reuse
        if not reuse or reuse not in {p.phase.name for p in self._context.phases}:
            return False
        rows = self._context.machines(name) + self._context.machines(reuse)  # some may be ours already, after a crash
        if len(rows) < need.nodes or not all(fits(need, self._offer(r)) for r in rows[: need.nodes]):
            return False
        for row in rows[: need.nodes]:
            self._ledger.charge(row.name, self._context.run, name, now())
            self._context.event(f"{row.name}: taken over by {name}")
        return True

    def offers(self, name: str) -> list[dict[str, Any]]:
        """The machines to try, best first, as plain values."""
        self._context.control.check()
        need, spec = self._phase(name).machine, self._context.spec
        found: list[Offer] = []
        for spot in (True, False) if spec.spot_or_demand else (spec.spot,):
            on_sale = self._patiently(
                partial(self._context.provider.offers, gpus=need.count if need.gpu else 0, spot=spot)
            )
            found += candidates(need, on_sale, place=spec.place, spot=spot)
        once = {(o.type_id, o.place, o.spot): o for o in reversed(found)}  # a type of several names is tried once
        return [_plain(o) for o in found if once[o.type_id, o.place, o.spot] is o]

    def missing_nodes(self, name: str) -> list[int]:
        """Which nodes of the phase have no machine."""
        have = {r.node for r in self._context.machines(name)}
        return [n for n in range(self._phase(name).machine.nodes) if n not in have]

    def request(self, name: str, request: str, node: int, offer: dict[str, Any]) -> str:
        """Choose a machine's name and write it down before anything is asked."""
        return self.machines.request(name, request, node, _offer(offer), self._deadline(name))

    def create(self, name: str, machine: str, volume: str) -> dict[str, Any]:
        """Create it (machines.create)."""
        need, settings = self._phase(name).machine, self._context.spec.plan.settings
        image = need.image or settings.images.get(self._context.provider.name, "")
        row = self._ledger.one(tables.volumes, name=volume) if volume else None
        spec = self.machines.spec(
            machine, image=image, disk_gb=need.disk_gb, ports=need.ports, volume=row, nodes=need.nodes
        )
        return self.machines.create(machine, spec)

    def prepare(self, name: str) -> str:
        """Payload, venv and the volume's lease on every node; "" or why the machine is lost."""
        self._context.control.check()
        rows = self._context.machines(name)
        try:
            for row in rows:
                self.machines.reaching(row.name, partial(self.machines.prepare, row.name))
            if volume := self._phase(name).volume:
                root = rows[0].name
                self.machines.reaching(root, partial(self._lease, root, volume.name))
        except MachineLost as error:
            return error.message
        return ""

    def _lease(self, machine: str, volume: str) -> None:
        """Take the volume's lease; one that an ended run of ours left is taken over, another's if nobody renews it."""
        agent = self._context.agents(machine)
        try:
            agent.lease(volume, self._context.run, LEASE_S)
        except LeaseHeld as error:
            holder = self._ledger.runs.maybe(id=error.holder)
            if holder is None or holder.state != RunState.DONE:
                self._context.event(
                    f"{volume} is held by {error.holder}: taken if it is not renewed for {LEASE_S:.0f} s"
                )
                agent.await_lease(volume, self._context.run, LEASE_S)
                return
            agent.lease(volume, error.holder, LEASE_S, "release")
            agent.lease(volume, self._context.run, LEASE_S)

    def keep_alive(self, name: str) -> None:
        """Have this process feed the dead-man's switches of the phase's machines and renew its lease."""
        volume, rows = self._phase(name).volume, self._context.machines(name)
        if volume and rows:
            self._context.agents.hold(rows[0].name, volume.name)

    def agree(self, name: str, agreed: list[str]) -> list[str]:
        """See agreement.agree. A machine that is lost meanwhile is found so by its steps."""
        try:
            return agreement.agree(self._context, self.machines, name, agreed)
        except MachineLost:
            return []

    def replace(self, name: str, why: str) -> None:
        """End what the phase holds that is lost, and note why: the next attempt rents anew."""
        self._context.event(f"{name}: {why}: another machine takes over")
        for row in self._context.machines(name):
            machine = row.name
            if reason := self.machines.lost(machine):
                self.machines.destroy(machine, reason)

    # -- steps -----------------------------------------------------------------------------------------------------

    def begin_steps(self, name: str, attempt: int) -> None:
        """The phase runs; steps that a lost machine left unfinished are pending again."""
        self.move(name, PhaseState.RUNNING)
        # What was done on a machine's own disk went with it; what is on a volume (or on the user's host) is there.
        kept = self._context.provider.keeps_data or self.volumes.row(self._phase(name).volume) is not None
        for row in self._ledger.all(tables.steps, run=self._context.run, phase=name):
            again = attempt > 1 and (self._service(name, str(row["id"])) or not kept)
            if row["state"] in UNFINISHED or (again and row["state"] in GOOD):
                key = {"run": self._context.run, "phase": name, "id": row["id"]}
                self._ledger.change(tables.steps, key, state=str(StepState.PENDING), attempt=attempt, ended_at=None)

    def open_steps(self, name: str) -> list[str]:
        """The steps still to do, needs first."""
        rows = {r["id"]: r["state"] for r in self._ledger.all(tables.steps, run=self._context.run, phase=name)}
        return [
            s.id for s in self._context.phase(name).steps if rows[s.id] not in (StepState.DONE, StepState.UP_TO_DATE)
        ]

    def _service(self, name: str, step: str) -> bool:
        return any(s.id == step and s.step.ready for s in self._context.phase(name).steps)

    # -- collecting ------------------------------------------------------------------------------------------------

    def manifest(self, name: str) -> list[ManifestFile]:
        """The phase's artifacts with size and sha256; written to manifest.json at home too."""
        patterns = self._phase(name).artifacts
        if not patterns:
            return []
        root = self._root_name(name)
        files = self.machines.reaching(root, lambda: artifacts.manifest(*self._root(name), patterns))
        if not files:
            raise StepFailed(f"{name}: no file matches the artifacts {', '.join(patterns)}")
        (self._context.folder / f"manifest-{name}.json").write_text(_json(files))
        return list(files)

    def upload(self, name: str, store: ArtifactStore, file: ManifestFile) -> str:
        """One file to one store."""
        root = self._root_name(name)

        def send() -> str:
            agent, workspace = self._root(name)
            return self._uploads.send(store, agent, workspace, file)

        return self.machines.reaching(root, send)

    def put_manifest(self, name: str, store: ArtifactStore, files: list[ManifestFile]) -> None:
        """The manifest goes last: where it is, everything is."""
        self._patiently(lambda: store.put_text(f"manifest-{name}.json", _json(files)))

    def pull(self, name: str, files: list[ManifestFile]) -> str:
        """Fetch the artifacts home, if the phase says so; return the folder."""
        if not self._phase(name).pull_to:
            return ""
        root = self._root_name(name)
        workspace = self.machines.reaching(root, lambda: self._root(name)[1])
        for file in files:
            artifacts.pull(self._context, root, workspace, file, self.home(name))
        return str(self.home(name))

    def home(self, name: str) -> Path:
        """Where the phase's artifacts are pulled to."""
        return (Path(self._context.spec.pull_root) / (self._phase(name).pull_to or ".")).resolve()

    def judge(self, name: str, files: list[ManifestFile]) -> list[Answer]:
        """Every deliverable of the phase."""
        root = self._root_name(name)

        def ask() -> list[Answer]:
            agent, workspace = self._root(name)
            return Deliverables(self._context, self._phase(name), agent, workspace).judge(files, self.home(name))

        return list(self.machines.reaching(root, lambda: self._patiently(ask)))

    # -- the end ---------------------------------------------------------------------------------------------------

    def tear_down(self, name: str, outcome: Outcome, why: str) -> None:
        """Note the outcome, and end the phase's machines but for those that a coming phase may take over."""
        self.move(name, PhaseState.TEARING_DOWN, outcome=str(outcome), error=why)
        if why:
            self._context.event(f"{name}: {outcome}: {why}")
        for row in self._ledger.all(tables.steps, run=self._context.run, phase=name):
            if row["state"] in (StepState.PENDING, StepState.RUNNING):
                state = StepState.INTERRUPTED if row["state"] == StepState.RUNNING else StepState.SKIPPED
                key = {"run": self._context.run, "phase": name, "id": row["id"]}
                self._ledger.change(tables.steps, key, state=str(state), ended_at=now())
        self._release(name)
        held = self._held(name)
        keep = self._wanted_later(name, outcome)
        each([m for m in held if m not in keep], lambda m: self.machines.destroy(m, f"{name}: {outcome}"))

    def finish(self, name: str) -> None:
        """The phase is done; what could not be ended is ended (or shouted about) by the run."""
        self.move(name, PhaseState.DONE, ended_at=now())

    def _held(self, name: str) -> list[str]:
        charges = self._ledger.all(tables.charges, run=self._context.run, phase=name, until=None)
        return [str(c["machine"]) for c in charges]

    def _release(self, name: str) -> None:
        volume = self._phase(name).volume
        rows = self._context.machines(name)
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
        need = later[0].phase.machine
        rows = self._context.machines(name)[: need.nodes]
        fitting = len(rows) == need.nodes and all(fits(need, self._offer(r)) for r in rows)
        return {r.name for r in rows} if fitting else set()

    def _deadline(self, name: str) -> float:
        """When a machine made now must be gone: after every phase that may still use it."""
        names = [p.phase.name for p in self._context.phases]
        total, last = 0.0, ""
        for phase in self._context.phases[names.index(name) :]:
            if last and phase.phase.machine.reuse != last:
                break
            total, last = total + phase.phase.timeout, phase.phase.name
        return now() + total + SPARE_S

    # -- small parts -----------------------------------------------------------------------------------------------

    def _phase(self, name: str) -> Phase:
        return self._context.phase(name).phase

    def _root_name(self, name: str) -> str:
        rows = self._context.machines(name)
        if not rows:
            raise MachineLost(f"{name} has no machine any more")
        return rows[0].name

    def _root(self, name: str) -> tuple[Agent, str]:
        """The root machine's agent and workspace. ConnectionLost when it cannot be reached just now."""
        agent = self._context.agents(self._root_name(name))
        return agent, agent.workspace

    def _offer(self, row: MachineRow) -> Offer:
        return Offer(
            provider=row.provider, type_id=row.type_id, gpu=row.gpu, gpus=row.gpus, memory_gb=memory_of(row.gpu),
            price_hour=row.price_hour, place=row.place, spot=row.spot,
        )  # fmt: skip

    def _patiently(self, call: Callable[[], Any]) -> Any:
        return retrying(call, within_s=300, time_scale=self._context.clock.real(1000) / 1000, on=(ProviderUnavailable,))


def _plain(offer: Offer) -> dict[str, Any]:
    return {
        "provider": offer.provider, "type_id": offer.type_id, "gpu": offer.gpu, "gpus": offer.gpus,
        "memory_gb": offer.memory_gb, "price_hour": str(offer.price_hour), "place": offer.place, "spot": offer.spot,
    }  # fmt: skip


def _offer(values: dict[str, Any]) -> Offer:
    return Offer(**values | {"price_hour": Decimal(values["price_hour"])})


def _json(files: list[ManifestFile]) -> str:
    return json.dumps([asdict(file) for file in files], indent=1)
