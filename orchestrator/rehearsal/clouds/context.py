"""What both emulated vendors share: the records, the clock, the faults, the hosts, and volumes as folders."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from orchestrator.rehearsal.clouds.catalogue import file_system_price_hour, volume_price_hour
from orchestrator.rehearsal.clouds.clock import CloudClock, stamp
from orchestrator.rehearsal.clouds.records import Billed, Records, Vendor, Volume
from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.host_spec import HostSpec
from orchestrator.words.observed import Observed

AFTER_A_STEP_BEGAN = 1.0  # cloud seconds until a fault at a step happens
STILL_LISTED = 20.0  # cloud seconds that delete-still-listed lasts
MENDED, STUBBORN, DEAD = "hang", "hang-refused", "hang-for-good"  # by a reboot; never rebooted; rebooted in vain


def private_late(seen: Observed, boot_s: float, usual_s: float) -> float:
    """Seconds between a machine's address and that in the private network. `boot_s`: until the first, if not seen."""
    if seen.private_s is None:
        return usual_s
    return max(seen.private_s - (boot_s if seen.address_s is None else seen.address_s), 0.0)


class HostUp(Protocol):
    """A machine that can be reached."""

    @property
    def host(self) -> str:
        """Its address."""
        ...

    @property
    def port(self) -> int:
        """Its SSH port."""
        ...

    @property
    def host_key(self) -> str:
        """The fingerprint (SHA256:...) of its host key; "": it has none to show."""
        ...


class Hosts(Protocol):
    """What the clouds ask of the emulated machines: orchestrator.rehearsal.hosts has the real ones."""

    async def boot(self, spec: HostSpec) -> HostUp:
        """Start a machine."""
        ...

    async def end(self, host_id: str, *, keep_disk: bool = False) -> None:
        """Kill all of it. Idempotent."""
        ...

    async def cut(self, host_id: str) -> None:
        """Drop its SSH connections once."""
        ...

    async def hang(self, host_id: str) -> None:
        """Drop its SSH connections and answer none any more; what runs there goes on."""
        ...

    async def create_volume(self, name: str) -> None:
        """Make an empty volume."""
        ...

    async def destroy_volume(self, name: str) -> None:
        """Remove a volume."""
        ...

    def volume_bytes(self, name: str) -> int:
        """What a volume holds now. It may take its time: call it in a thread."""
        ...


class ReplyLostError(Exception):
    """What was asked for is done; the client never hears of it."""


class ReplyCutError(Exception):
    """What was asked for is done; the client gets half of the reply."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__("reply cut")
        self.status, self.body = status, body


class DoneButFailedError(Exception):
    """What was asked for is done; the client is told that the server failed."""


@dataclass
class Context:
    """One account's cloud. `breaches` are replies of ours that broke the contract.

    `file` keeps the records (None: they end with the process); `token` makes so many random bytes in hex.
    `observed`: what was seen of the real ones, by provider: it goes before what is made up here.
    """

    file: Path | None
    hosts: Hosts
    clock: CloudClock
    records: Records
    faults: Switchboard
    token: Callable[[int], str] = secrets.token_hex
    observed: Mapping[str, Observed] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    def seen(self, provider: Vendor) -> Observed:
        """What was seen of that one."""
        return self.observed.get(provider) or Observed(provider=provider)

    def save(self) -> None:
        """Write everything down."""
        if self.file is not None:
            self.records.save(self.file, self.clock.now())

    def log(self, api: str, action: str, thing: Billed | None, **more: str) -> None:
        """Note a change that happened. `api` is who asked: an API's name, or "cloud" for its own doing."""
        entry = {"at": stamp(self.clock.now()), "api": api, "action": action}
        if thing is not None:
            entry |= {"name": thing.name, "id": thing.id}
        self.records.log.append(entry | more)
        self.save()

    def run(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Go on with something in the background; what ran under the same key must have ended."""
        task = asyncio.create_task(work, name=f"cloud {key}")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled() and (error := task.exception()):
            self.breaches.append(f"{task.get_name()}: {error!r}")

    async def halt(self, key: str) -> None:
        """Stop what runs under this key, but never in the middle of a `locked` part."""
        task = self._tasks.get(key)  # it counts as background work until it has ended
        if task is None or task is asyncio.current_task():
            self._tasks.pop(key, None)
            return
        async with self.locked(key):
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)  # it is in the background until it has ended
        if self._tasks.get(key) is task:
            del self._tasks[key]

    def locked(self, key: str) -> asyncio.Lock:
        """The lock that a boot holds, so that no half-booted machine is left."""
        return self._locks.setdefault(key, asyncio.Lock())

    def after_create(self, status: int, reply: Any) -> None:
        """Spoil the reply to a create that has succeeded, if that is armed."""
        if self.faults.take("create-reply-lost"):
            raise ReplyLostError
        if self.faults.take("create-reply-cut"):
            raise ReplyCutError(status, reply)
        if self.faults.take("create-500"):
            raise DoneButFailedError

    def disguise(self, machines: list[dict[str, Any]]) -> None:
        """Give a reply's machines a status of the future, if that is armed; after the contract has judged it."""
        if machines and self.faults.take("status-unknown"):
            for machine in machines:
                machine["status"] = "MIGRATING"

    @property
    def background(self) -> int:
        """How many pieces of work go on in the background."""
        return len(self._tasks)

    async def close(self) -> None:
        """End all background work."""
        await asyncio.gather(*(self.halt(key) for key in list(self._tasks)))

    async def make_volume(self, vendor: Vendor, name: str, place: str, size_gb: int, kind: str = "STANDARD") -> Volume:
        """A new volume, with a folder of its own even when its name is taken (RunPod's names need not be unique)."""
        identity, now = self.token(5), self.clock.now()  # ten letters and digits, as RunPod's ids
        taken = {volume.folder for volume in self.records.volumes.values() if volume.gone is None}
        plain = bool(re.fullmatch(r"[\w-][\w.-]*", name)) and name not in taken
        volume = Volume(
            id=identity,
            name=name,
            created=now,
            vendor=vendor,
            folder=name if plain else f"volume-{identity}",
            place=place,
            size_gb=size_gb,
            type=kind,
        )
        try:
            await self.hosts.create_volume(volume.folder)
        except ValueError:  # somebody's folder that is in no record: never mount what is not this volume's
            volume.folder = f"volume-{identity}"
            await self.hosts.create_volume(volume.folder)
        volume.charge(volume_price_hour(size_gb, kind) if vendor == "runpod" else Decimal(0), now)
        self.records.volumes[volume.id] = volume
        return volume

    def measure(self, volume: Volume) -> None:
        """Price a Lambda filesystem by what it holds now: the rehearsal takes the last size for the whole time."""
        for span in volume.spans:
            span.price_hour = file_system_price_hour(self.hosts.volume_bytes(volume.folder))

    async def drop_volume(self, volume: Volume) -> None:
        """Remove a volume for good. ValueError: a machine mounts it."""
        await self.hosts.destroy_volume(volume.folder)
        volume.settle(self.clock.now())
        volume.gone = self.clock.now()

    def volumes(self, vendor: Vendor) -> list[Volume]:
        """The volumes that exist, oldest first."""
        return [v for v in self.records.volumes.values() if v.vendor == vendor and v.gone is None]
