"""The volume of a plan: made once, found again by name, kept until the plan is done or its deadline."""

from __future__ import annotations

from functools import partial

from orchestrator.engine import gone
from orchestrator.engine.context import Context
from orchestrator.engine.effects import End, Gone, NotGone
from orchestrator.engine.names import VolumeName
from orchestrator.engine.reach import patiently
from orchestrator.ledger.rows import VolumeRow
from orchestrator.words.errors import Ambiguous, NoMachine, ProviderUnavailable, Refused
from orchestrator.words.lifecycle import VolumeState
from orchestrator.words.model import VolumeNeed
from orchestrator.words.provider import Capability, VolumeView

POLL_S = 5.0
APPEAR_S = 90.0  # how long a volume whose create got no answer is looked for, in the cloud's time
DESTROY_S = 300.0  # how long a volume may take to be gone, in the cloud's time
SETTLED_S = 300.0  # real seconds after which a volume that the list lacks is gone


class Volumes:
    """The volumes of one run's cloud."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ledger, self._provider, self._clock = context.ledger, context.provider, context.clock

    def row(self, need: VolumeNeed | None) -> VolumeRow | None:
        """The ledger's row of the plan's volume in this run's cloud; None: there is none (or the need is None)."""
        if need is None:
            return None
        spec = self._context.spec
        mine = self._ledger.volumes.all(label=spec.label(need), provider=self._provider.name, cloud=spec.cloud)
        living = [row for row in mine if not row.state.is_final and spec.moves_to in {"", row.place}]
        return living[-1] if living else None

    def ensure(self, need: VolumeNeed) -> str:
        """Find or make the volume; return its name. "" where the provider has none: the machine's own disk serves."""
        if Capability.VOLUMES not in self._provider.capabilities:
            return ""
        there = {v.name for v in self._listed()}
        row = self.row(need)
        if row and row.state == VolumeState.DESTROYING:  # somebody wanted it deleted: nothing is put on it now
            if isinstance(end := self.destroy(row.name), NotGone):
                raise NoMachine(f"the volume {row.name} is being deleted, and is not gone: {end.why}")
            row = None
        now = self._context.now()
        if row and row.accepted_at and row.name not in there and now - row.accepted_at > SETTLED_S:
            self._ledger.volumes.move({"name": row.name}, VolumeState.LOST, gone_at=now)
            self._context.event(f"{row.name}: {self._provider.name} has it no more: a new one is made")
            row = None
        if row is None:
            row = self._adopted(need) or self._requested(need)
        if not row.provider_id:
            self._create(row)
        return row.name

    def _listed(self) -> list[VolumeView]:
        return patiently(self._clock, self._provider.volumes, check=self._context.control.check)

    def _adopted(self, need: VolumeNeed) -> VolumeRow | None:
        """A volume of ours that an empty ledger does not know (another computer, a lost folder)."""
        spec = self._context.spec
        ours = (spec.owner, spec.label(need))
        for view in self._listed():
            name = VolumeName.parse(view.name)
            if name and (name.owner, name.label) == ours and spec.moves_to in {"", view.place}:
                self._insert(view.name, need, view.place, view.size_gb)
                self._accepted(view.name, view.id)
                self._context.event(f"{view.name}: found and taken over")
                return self._ledger.volumes.get(name=view.name)
        return None

    def _requested(self, need: VolumeNeed) -> VolumeRow:
        spec = self._context.spec
        deadline = int(self._clock.wall().timestamp() + spec.plan.settings.volume_days * 86400)
        name = str(VolumeName(spec.owner, spec.label(need), spec.run, deadline))
        self._insert(name, need, spec.place or "", need.size_gb)
        return self._ledger.volumes.get(name=name)

    def _insert(self, name: str, need: VolumeNeed, place: str, size_gb: int) -> None:
        spec, parsed = self._context.spec, VolumeName.parse(name)
        self._ledger.volumes.put(
            VolumeRow(
                name=name, run=spec.run, label=spec.label(need), provider=self._provider.name, place=place,
                size_gb=size_gb, price_hour=self._provider.volume_price_hour(size_gb), state=VolumeState.REQUESTED,
                cloud=spec.cloud, requested_at=self._context.now(), deadline=parsed.deadline if parsed else None,
            )
        )  # fmt: skip

    def _create(self, row: VolumeRow) -> None:
        name = row.name
        if row.sent_at and self._appeared(name):
            return
        self._context.control.check()
        self._ledger.volumes.change({"name": name}, sent_at=self._context.now())
        try:
            volume_id = self._provider.create_volume(name, row.size_gb, row.place)
        except Refused as error:
            self._ledger.volumes.move({"name": name}, VolumeState.DESTROYED, gone_at=self._context.now())
            raise NoMachine(f"{self._provider.name} refused the volume {name}: {error.message}") from error
        except (Ambiguous, ProviderUnavailable) as error:
            if self._appeared(name):
                return
            raise NoMachine(f"the volume {name} was asked for and never appeared: {error.message}") from error
        self._accepted(name, volume_id)
        self._context.event(f"{name}: created as {volume_id} in {row.place}", minor=True)
        self._compare_price(row, volume_id)

    def _accepted(self, name: str, volume_id: str) -> None:
        now = self._context.now()
        self._ledger.volumes.move({"name": name}, VolumeState.CREATED, provider_id=volume_id, accepted_at=now)

    def _compare_price(self, row: VolumeRow, volume_id: str) -> None:
        """What the provider says that the volume costs is what is charged for it; said where it is more."""
        try:
            made = next((v for v in self._provider.volumes() if v.id == volume_id), None)
        except ProviderUnavailable:
            return
        if made and made.price_hour > row.price_hour:
            self._ledger.volumes.change({"name": row.name}, price_hour=made.price_hour)
            costs = f"costs ${made.price_hour * 24:.2f} a day, not ${row.price_hour * 24:.2f}"
            said = f"{costs}: it is of the dearer tier {made.tier}".rstrip()  # whether one was asked for or not
            self._context.event(f"{row.name}: {said}")

    def _appeared(self, name: str) -> bool:
        give_up = self._clock.monotonic() + self._clock.real(APPEAR_S)
        while self._clock.monotonic() < give_up:
            try:
                if found := self._found(name):
                    self._accepted(name, found)
                    return True
            except ProviderUnavailable:
                pass
            self._context.control.pause(self._clock.scaled(POLL_S))
            self._context.control.check()
        return False

    def _found(self, name: str) -> str:
        """The id under which the provider lists the volume; "": it does not."""
        return next((view.id for view in self._provider.volumes() if view.name == name), "")

    def destroy(self, name: str) -> End:
        """Delete the volume and wait until the list lacks it."""
        row = self._ledger.volumes.get(name=name)
        if row.state.is_final:
            return Gone()
        self._ledger.volumes.move({"name": name}, VolumeState.DESTROYING)
        now = self._context.now()
        lag_s = max(APPEAR_S, self._provider.list_lag_s) if row.sent_at else 0.0  # nobody was asked: nothing is fresh
        fresh_s = max(self._clock.scaled(lag_s) - (now - (row.accepted_at or row.sent_at or now)), 0.0)
        present, end = (lambda: bool(self._found(name))), partial(self._ask_to_go, name)
        proof = gone.until(self._clock, present, end=end, fresh_s=fresh_s, seen=False, within_s=DESTROY_S)
        if isinstance(proof, NotGone):
            return proof
        self._ledger.volumes.move({"name": name}, VolumeState.DESTROYED, gone_at=proof.at.timestamp())
        self._context.event(f"{name}: gone", minor=True)
        return Gone()

    def _ask_to_go(self, name: str) -> None:
        """Ask once to delete it. One whose create got no answer may not have its id yet."""
        row = self._ledger.volumes.get(name=name)
        volume_id = row.provider_id or self._found(name)
        if volume_id and not row.provider_id:
            self._ledger.volumes.change({"name": name}, provider_id=volume_id)
        if volume_id:
            self._provider.destroy_volume(volume_id)
