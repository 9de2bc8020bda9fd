"""The volume of a plan: made once, found again by name, kept until the plan is done or its deadline."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from orchestrator.engine import reaper
from orchestrator.engine.context import Context, now
from orchestrator.ledger import Row, tables
from orchestrator.ledger.rows import VolumeRow
from orchestrator.words.errors import Ambiguous, NoMachine, ProviderUnavailable, Refused
from orchestrator.words.lifecycle import ENDED, MachineState
from orchestrator.words.model import VolumeNeed
from orchestrator.words.ports import Capability, VolumeView
from orchestrator.words.retry import retrying
from orchestrator.words.spec import plain

POLL_S = 5.0
DESTROY_S = 300.0  # how long a volume may take to be gone, in the cloud's time
SETTLED_S = 300.0  # real seconds after which a volume that the list lacks is gone


class Volumes:
    """The volumes of one run's cloud."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ledger = context.ledger
        self._provider = context.provider

    def row(self, need: VolumeNeed | None) -> VolumeRow | None:
        """The ledger's row of the plan's volume in this run's cloud; None: there is none (or the need is None)."""
        if need is None:
            return None
        mine = self._ledger.volumes.all(
            label=self._context.spec.label(need),
            provider=self._provider.name,
            cloud=self._context.spec.cloud,
        )
        living = [r for r in mine if not r.state.is_final]
        return living[-1] if living else None

    def ensure(self, need: VolumeNeed) -> str:
        """Find or make the volume; return its name. "" where the provider has none: the machine's own disk serves."""
        if Capability.VOLUMES not in self._provider.capabilities:
            return ""
        there = {v.name for v in self._patiently(self._provider.volumes)}
        found = self.row(need)
        row = self._ledger.one(tables.volumes, name=found.name) if found else None
        if row and row["state"] == MachineState.DESTROYING:  # somebody wanted it deleted: nothing is put on it now
            if not (end := self.destroy(str(row["name"])))["gone"]:
                raise NoMachine(f"the volume {row['name']} is being deleted, and is not gone: {end['why']}")
            row = None
        if row and row["accepted_at"] and row["name"] not in there and now() - row["accepted_at"] > SETTLED_S:
            self._ledger.move(tables.volumes, {"name": row["name"]}, MachineState.LOST, gone_at=now())
            self._context.event(f"{row['name']}: {self._provider.name} has it no more: a new one is made")
            row = None
        if row is None:
            row = self._adopted(need) or self._requested(need)
        if row["provider_id"]:
            return str(row["name"])
        self._create(row, need)
        return str(row["name"])

    def _prefix(self, need: VolumeNeed) -> str:
        return f"gpuplan-{self._context.spec.owner}-vol-{self._context.spec.label(need)}-"

    def _patiently(self, call: Callable[[], list[VolumeView]]) -> list[VolumeView]:
        scale = self._context.clock.scaled(1000) / 1000
        return retrying(call, within_s=300, time_scale=scale, on=(ProviderUnavailable,))

    def _adopted(self, need: VolumeNeed) -> Row | None:
        """A volume of ours that an empty ledger does not know (another computer, a lost folder)."""
        ours = re.compile(re.escape(self._prefix(need)) + r"\d{4}-[a-z0-9]{4}(-\d+)?-t\d+")
        for view in self._patiently(self._provider.volumes):
            if ours.fullmatch(view.name):
                self._insert(view.name, need, view.place, view.size_gb)
                self._ledger.move(
                    tables.volumes, {"name": view.name}, MachineState.CREATED, provider_id=view.id, accepted_at=now()
                )
                self._context.event(f"{view.name}: found and taken over")
                return self._ledger.one(tables.volumes, name=view.name)
        return None

    def _requested(self, need: VolumeNeed) -> Row:
        deadline = int(self._context.spec.created_at + self._context.spec.plan.settings.volume_days * 86400)
        name = f"{self._prefix(need)}{plain(self._context.run)}-t{deadline}"
        self._insert(name, need, self._context.spec.place or "", need.size_gb)
        return self._ledger.one(tables.volumes, name=name)

    def _insert(self, name: str, need: VolumeNeed, place: str, size_gb: int) -> None:
        tail = name.rsplit("-t", 1)[-1]
        self._ledger.put(
            tables.volumes,
            name=name,
            run=self._context.run,
            label=self._context.spec.label(need),
            provider=self._provider.name,
            provider_id="",
            place=place,
            size_gb=size_gb,
            price_hour=str(self._provider.volume_price_hour(size_gb)),
            state=MachineState.REQUESTED,
            cloud=self._context.spec.cloud,
            requested_at=now(),
            deadline=float(tail) if tail.isdigit() else None,
        )

    def _create(self, row: Row, need: VolumeNeed) -> None:
        name = str(row["name"])
        if row["sent_at"] and self._appeared(name):
            return
        self._context.control.check()
        self._ledger.change(tables.volumes, {"name": name}, sent_at=now())
        try:
            volume_id = self._provider.create_volume(name, need.size_gb, str(row["place"]))
        except Refused as error:
            self._ledger.move(tables.volumes, {"name": name}, MachineState.DESTROYED, gone_at=now())
            raise NoMachine(f"{self._provider.name} refused the volume {name}: {error.message}") from error
        except (Ambiguous, ProviderUnavailable) as error:
            if self._appeared(name):
                return
            raise NoMachine(f"the volume {name} was asked for and never appeared: {error.message}") from error
        self._ledger.move(
            tables.volumes, {"name": name}, MachineState.CREATED, provider_id=volume_id, accepted_at=now()
        )
        self._context.event(f"{name}: created as {volume_id} in {row['place']}")

    def _appeared(self, name: str) -> bool:
        give_up = now() + self._context.clock.real(90)
        while now() < give_up:
            try:
                if self._identified(name):
                    self._ledger.move(tables.volumes, {"name": name}, MachineState.CREATED, accepted_at=now())
                    return True
            except ProviderUnavailable:
                pass
            self._context.clock.sleep(POLL_S)
        return False

    def _identified(self, name: str) -> bool:
        """Whether the provider lists the volume; its id is noted then, whatever state it is in."""
        for view in self._provider.volumes():
            if view.name == name:
                self._ledger.change(tables.volumes, {"name": name}, provider_id=view.id)
                return True
        return False

    def destroy(self, name: str) -> dict[str, Any]:
        """Delete the volume and wait until the list lacks it. {"gone": bool, "why": str}."""
        row = self._ledger.one(tables.volumes, name=name)
        if row["state"] in ENDED:
            return {"gone": True, "why": ""}
        self._ledger.move(tables.volumes, {"name": name}, MachineState.DESTROYING)
        why = reaper.insist(self._context.clock, partial(self._deleted, name), DESTROY_S)
        if not why:
            self._ledger.move(tables.volumes, {"name": name}, MachineState.DESTROYED, gone_at=now())
            self._context.event(f"{name}: gone")
        return {"gone": not why, "why": why}

    def _deleted(self, name: str) -> bool:
        """Ask once; whether the list lacks it then. One whose create got no answer may not have its id yet."""
        if self._ledger.one(tables.volumes, name=name)["provider_id"] or self._identified(name):
            self._provider.destroy_volume(str(self._ledger.one(tables.volumes, name=name)["provider_id"]))
        return all(v.name != name for v in self._provider.volumes())
