"""One create, sent once: what was asked is known before, and what became of it is looked up where no answer came."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from orchestrator.engine.context import Context
from orchestrator.engine.effects import Created, Creation, Refused, Unknown
from orchestrator.engine.readiness import POLL_S
from orchestrator.engine.sources import image_of
from orchestrator.ledger.rows import HostKeyRow, MachineRow, VolumeRow
from orchestrator.plan import memory_of
from orchestrator.transport.keys import make_host_key
from orchestrator.words import errors
from orchestrator.words.errors import (
    AccountRefused,
    Ambiguous,
    GpuplanError,
    NoMachine,
    ProviderUnavailable,
    RequestRefused,
)
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.model import MachineNeed
from orchestrator.words.provider import Capability, MachineSpec, Offer
from orchestrator.words.secret import Secret

NOT_NOW_S = 300.0  # how long a provider may say "not now" to a create, in the cloud's time
CUT, NEVER = "its create was cut short", "never appeared: "  # why a machine is looked for; why it is LOST
APPEAR_S = 90.0  # how long a machine whose create got no answer is looked for at least, in the cloud's time


class Creations:
    """Sends the creates of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ledger, self._provider, self._clock = context.ledger, context.provider, context.clock

    def create(self, name: str, need: MachineNeed, volume: VolumeRow | None) -> Creation:
        """Create the machine once, with the volume where it needs one; after a crash, say what became of it."""
        row = self._ledger.machines.get(name=name)
        if row.provider_id:
            return Created(row.provider_id)
        if row.state.is_final:
            return Refused(row.reason, unheard=row.reason == NEVER + CUT)
        if row.sent_at:  # a crash came between the call and its answer
            found = self.reconcile(name, CUT)
            return replace(found, unheard=True) if isinstance(found, Refused) else found
        self._context.control.check()
        spec = self._spec(row, need, volume)
        self._ledger.machines.change({"name": name}, sent_at=self._context.now())
        try:
            return self._created(name, self._send(spec))
        except errors.Refused as error:
            self._ledger.gone(name, f"refused: {error.message}", MachineState.DESTROYED)
            stops = isinstance(error, AccountRefused | RequestRefused)
            if not stops:
                self._ledger.machines.change({"name": name}, failed=f"refused: {error.message}")
            return Refused(error.message, stops=stops)
        except Ambiguous as error:
            self._context.event(f"{name}: {error.message}: looking for it by name")
            return self.reconcile(name, error.message)

    def _spec(self, row: MachineRow, need: MachineNeed, volume: VolumeRow | None) -> MachineSpec:
        """What to ask the provider for, from what was written down."""
        if volume and not volume.provider_id:
            raise NoMachine(f"the volume {volume.name} was asked for, and {row.provider} does not list it yet")
        return MachineSpec(
            name=row.name, offer=offer_of(row), image=image_of(self._context, need, gpus=row.gpus),
            disk_gb=need.disk_gb, ports=need.ports,
            public_key=self._context.public_key, deadline=datetime.fromtimestamp(row.deadline or 0, UTC),
            volume_id=volume.provider_id if volume else None, volume_name=volume.name if volume else None,
            private_network=need.nodes > 1, host_key=self._host_key(row.name),
            min_cuda=self._context.spec.plan.settings.cuda.get(self._provider.name, "") if row.gpus else "",
        )  # fmt: skip

    def _host_key(self, name: str) -> Secret | None:
        """A host key of ours, pinned before the machine exists; None: this provider takes none."""
        if Capability.HOST_KEY not in self._provider.capabilities:
            return None
        private, public = make_host_key()
        self._ledger.host_keys.put(HostKeyRow(address=name, key=public))
        return private

    def _send(self, spec: MachineSpec) -> str:
        """One create; only a definite "not now" (429) is sent again."""
        give_up = self._clock.monotonic() + self._clock.real(NOT_NOW_S)
        while True:
            try:
                return self._provider.create(spec)
            except ProviderUnavailable as error:
                if self._clock.monotonic() < give_up:
                    self._context.control.pause(self._clock.scaled(min(error.retry_after or POLL_S, NOT_NOW_S)))
                if self._clock.monotonic() >= give_up or self._context.control.stopping:
                    raise errors.Refused(error.message) from error

    def _created(self, name: str, provider_id: str) -> Created:
        now = self._context.now()
        self._ledger.machines.move({"name": name}, MachineState.CREATED, provider_id=provider_id, accepted_at=now)
        row = self._ledger.machines.get(name=name)
        image = image_of(self._context, self._context.need(row.phase), gpus=row.gpus)
        self._context.event(f"{name}: created as {provider_id}" + (f" from {image}" if image else ""), minor=True)
        return Created(provider_id)

    def reconcile(self, name: str, why: str) -> Creation:
        """Look for a machine by its name until longer than the provider's list may lag; adopt what is found.

        Only a list that was really seen proves its absence.
        """
        lag_s = max(APPEAR_S, 1.5 * self._provider.list_lag_s)
        away_s = self._context.now() - (self._ledger.machines.get(name=name).sent_at or self._context.now())
        give_up = self._clock.monotonic() + self._clock.real(lag_s)
        while True:
            late = self._clock.monotonic() >= give_up
            try:
                found = next((v for v in self._provider.machines() if v.name == name), None)
            except GpuplanError as error:
                if late:
                    return Unknown(f"{why}; {self._provider.name} cannot be asked whether it exists: {error.message}")
            else:
                if found:
                    return self._created(name, found.id)
                if late:
                    break
            self._clock.sleep(POLL_S)
        self._ledger.gone(name, NEVER + why, MachineState.LOST)
        if away_s > self._clock.real(lag_s):
            self._note_unwatched(name, away_s)
        return Refused(f"{why}; it never appeared")

    def _note_unwatched(self, name: str, seconds: float) -> None:
        """Say what an account cannot know: whether a machine was made and ended while nobody looked for it."""
        usd = self._ledger.machines.get(name=name).price_hour * Decimal(seconds) / 3600
        self._context.event(
            f"{name}: nobody looked for it in the {seconds / 3600:,.1f} hours after its create was sent; had it been "
            f"made, and ended elsewhere since, it would have cost up to ${usd:.2f}, which is in no account here"
        )


def offer_of(row: MachineRow) -> Offer:
    """What was taken when the machine was asked for."""
    return Offer(
        provider=row.provider, type_id=row.type_id, gpu=row.gpu, gpus=row.gpus, memory_gb=memory_of(row.gpu),
        price_hour=row.price_hour, place=row.place, spot=row.spot, disk_hour=row.disk_hour,
    )  # fmt: skip
