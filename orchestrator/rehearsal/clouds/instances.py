"""The life of a Lambda instance: launched, booted, active, terminated. There is no stop.

Delays are in cloud seconds. A boot to usable was measured to take 165 to 478 s; the others are not documented.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from decimal import Decimal

from orchestrator.rehearsal.clouds.catalogue import INSTANCE_TYPES, REGIONS
from orchestrator.rehearsal.clouds.context import (
    DEAD,
    STILL_LISTED,
    STUBBORN,
    Context,
    DoneButFailedError,
    private_late,
)
from orchestrator.rehearsal.clouds.records import Instance, Vendor, Volume
from orchestrator.rehearsal.host_spec import HostSpec
from orchestrator.words.observed import Observed

API: Vendor = "lambda"
BOOTING = 165.0
RESTARTING = 60.0
PRIVATE_ADDRESS_LATE = 20.0
TERMINATING = 5.0  # until a terminated instance leaves the list
PREEMPTED_LISTED = 60.0
UNSEEN_LONG = 60.0


class ApiError(Exception):
    """An error envelope: clients are to look at the code only."""

    def __init__(self, status: int, code: str, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.suggestion = status, code, message, suggestion


def missing(what: str) -> ApiError:
    """What was named at launch does not exist; the specification lists it under 400 and 404 alike."""
    return ApiError(404, "global/object-does-not-exist", f"{what} does not exist.", "Check the name and try again.")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A launch that the schema has passed."""

    kind: str
    region: str
    ssh_keys: tuple[str, ...]
    name: str = ""
    file_systems: tuple[str, ...] = ()  # names
    mounts: dict[str, str] = field(default_factory=dict)  # mount point by filesystem id
    hostname: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    user_data: str = ""


class Instances:
    """Every instance of the account. All of them listen at one SSH port, each at an address of its own."""

    def __init__(self, context: Context, ssh_port: int) -> None:
        self._context, self._ssh_port = context, ssh_port

    @property
    def _seen(self) -> Observed:
        return self._context.seen(API)

    @property
    def _leaving_s(self) -> float:
        return TERMINATING if self._seen.unlisted_s is None else self._seen.unlisted_s

    def listing(self) -> list[Instance]:
        """What the API lists: not the ones that left."""
        return [i for i in self._context.records.instances.values() if self._visible(i)]

    def _visible(self, instance: Instance) -> bool:
        return not self._left(instance) and self._context.clock.since(instance.created) >= instance.unseen_s

    def _left(self, instance: Instance) -> bool:
        # Whether and how long the live list keeps terminated rows is not documented; here they vanish.
        return instance.left is not None and self._context.clock.now() >= instance.left

    def get(self, instance_id: str) -> Instance:
        """An instance by id, or ApiError 404."""
        instance = self._context.records.instances.get(instance_id)
        if instance is None or not self._visible(instance):
            raise ApiError(404, "global/object-does-not-exist", "Specified instance does not exist.")
        return instance

    async def launch(self, launch: Launch) -> Instance:
        """Make an instance, or raise ApiError: nothing was made."""
        kind = INSTANCE_TYPES.get(launch.kind)
        if kind is None:
            raise missing(f"Instance type {launch.kind}")
        if launch.region not in REGIONS:
            raise missing(f"Region {launch.region}")
        if len(launch.ssh_keys) != 1:
            raise ApiError(400, "global/invalid-parameters", "Exactly one SSH key must be specified.")
        if not self._public_key(launch.ssh_keys[0]):
            raise missing(f"SSH key {launch.ssh_keys[0]}")
        volume, mount_point = self._file_system(launch)
        self._refuse()
        if self._context.faults.take("create-refused-capacity") or launch.region not in kind.regions:
            code = "instance-operations/launch/insufficient-capacity"
            raise ApiError(400, code, "Not enough capacity to fulfill launch request.")
        instance = Instance(
            id=self._context.token(16),
            name=launch.name,
            created=self._context.clock.now(),
            kind=kind.name,
            region=launch.region,
            ssh_key=launch.ssh_keys[0],
            volume_id=volume.id if volume else None,
            mount_point=mount_point,
            hostname=launch.hostname,
            tags=launch.tags,
            user_data=launch.user_data,
            unseen_s=UNSEEN_LONG if self._context.faults.take("list-lag") else self._seen.listed_s or 0.0,
            jupyter_token=self._context.token(16),
        )
        self._context.records.instances[instance.id] = instance
        price = Decimal(kind.cents) / 100
        self._context.log(API, "create-machine", instance, vendor=API, price_hour=str(price))
        self._context.run(instance.id, self._boot(instance, price))
        return instance

    def _refuse(self) -> None:
        if self._context.faults.take("create-refused-payment"):
            advice = "Make sure you have verified your email address and have a valid payment method."
            raise ApiError(403, "global/account-inactive", "Your account is inactive.", advice)
        if self._context.faults.take("create-refused-pool"):
            raise ApiError(400, "global/quota-exceeded", "Quota exceeded.", "Contact Support to increase your quota.")

    def _public_key(self, name: str) -> str:
        keys = [key.public_key for key in self._context.records.ssh_keys.values() if key.name == name]
        return keys[0] if keys else ""

    def _file_system(self, launch: Launch) -> tuple[Volume | None, str]:
        volumes = self._context.volumes("lambda")
        wanted: dict[str, tuple[Volume, str]] = {}
        for name in launch.file_systems:
            found = next((v for v in volumes if v.name == name), None)
            if found is None:
                raise missing(f"Filesystem {name}")
            wanted[found.id] = (found, mount_point_of(found))
        for identity, path in launch.mounts.items():
            found = next((v for v in volumes if v.id == identity), None)
            if found is None:
                raise missing(f"Filesystem {identity}")
            wanted[found.id] = (found, path)
        for volume, _ in wanted.values():
            if volume.place != launch.region:
                code = "instance-operations/launch/file-system-in-wrong-region"
                raise ApiError(400, code, f"Filesystem {volume.name} is in {volume.place}, not in {launch.region}.")
        if len(wanted) > 1:
            raise ApiError(400, "global/invalid-parameters", "The rehearsal mounts one filesystem a machine.")
        return next(iter(wanted.values()), (None, ""))

    async def _boot(self, instance: Instance, price: Decimal) -> None:
        faults = self._context.faults
        if faults.take("boot-never"):
            return
        await self._context.clock.sleep(BOOTING if self._seen.address_s is None else self._seen.address_s)
        if faults.take("boot-error"):
            instance.status = "unhealthy"
            return
        async with self._context.locked(instance.id):
            try:
                instance.address = self._address()  # reserved before the wait: others boot at the same time
                await self._context.hosts.boot(self._spec(instance))
            except (OSError, ValueError) as error:
                instance.status, instance.address = "unhealthy", None
                self._context.log("cloud", "boot-failed", instance, reason=str(error))
                return
            # The bill begins when the machine has booted, says the vendor.
            instance.charge(price, self._context.clock.now())
            instance.ip = None if faults.take("boot-no-address") else instance.address
            instance.status = "active"
            self._context.save()
        await self._show_private(instance)

    async def _show_private(self, instance: Instance) -> None:
        await self._context.clock.sleep(private_late(self._seen, BOOTING, PRIVATE_ADDRESS_LATE))
        never = self._context.faults.take("private-address-never") or self._seen.private_never
        instance.shows_private_ip = not never
        self._context.save()

    def _spec(self, instance: Instance) -> HostSpec:
        kind = INSTANCE_TYPES[instance.kind]
        volume = self._context.records.volumes[instance.volume_id] if instance.volume_id else None
        return HostSpec(
            id=instance.id,
            name=instance.name or instance.id,
            user="ubuntu",
            gpu=kind.smi,
            gpus=0 if self._context.faults.take("boot-no-gpu") else kind.gpus,
            gpu_memory_mib=kind.memory_mib,
            public_key=self._public_key(instance.ssh_key),
            volume=volume.folder if volume else None,
            address=f"{instance.address}:{self._ssh_port}",
            host_key=_host_key(instance.user_data),
        )

    def _address(self) -> str:
        """An address of loopback's for each instance; where there is only one (macOS), one instance at a time."""
        if sys.platform != "linux":
            return "127.0.0.1"
        taken = {i.address for i in self._context.records.instances.values() if i.gone is None}
        free = next((ip for n in range(2, 255) if (ip := f"127.0.0.{n}") not in taken), None)
        if free is None:
            raise OSError("every address of the emulated cloud is taken")
        return free

    async def restart(self, instance: Instance) -> None:
        """Start it again, while it bills on: its processes end; disk, address and host key stay.

        ApiError 409: it is not active. That it shows as active meanwhile is what the specification's example says.
        """
        if instance.status != "active" or instance.hangs == STUBBORN:
            raise ApiError(409, "global/conflict", "The request conflicts with the current state of the resource.")
        await self._context.halt(instance.id)
        await self._context.hosts.end(instance.id, keep_disk=True)
        self._context.log(API, "restart-machine", instance)
        self._context.run(instance.id, self._again(instance))

    async def _again(self, instance: Instance) -> None:
        await self._context.clock.sleep(RESTARTING)
        async with self._context.locked(instance.id):
            await self._context.hosts.boot(self._spec(instance))
            if instance.hangs == DEAD:
                await self._context.hosts.hang(instance.id)
            else:
                instance.hangs = ""
        if not instance.shows_private_ip:
            await self._show_private(instance)

    async def terminate(self, instance: Instance) -> None:
        """Begin to end an instance: it shows as terminating, then vanishes. Idempotent."""
        faults = self._context.faults
        if faults.take("delete-refused"):
            raise ApiError(503, "provider/internal-unavailable", "The provider is unavailable.")
        if faults.take("delete-404"):
            raise ApiError(404, "global/object-does-not-exist", "Specified instance does not exist.")
        self._context.log(API, "destroy-machine", instance)
        if instance.status == "terminating":
            return
        if faults.take("delete-still-listed"):
            instance.status = "terminating"
            self._context.run(f"{instance.id} leaving", self._linger(instance))
            return
        await self._end(instance, "terminating", self._leaving_s)
        if faults.take("delete-500"):
            raise DoneButFailedError

    async def _linger(self, instance: Instance) -> None:
        await self._context.clock.sleep(STILL_LISTED)
        await self._end(instance, "terminating", self._leaving_s)

    async def preempt(self, instance: Instance) -> None:
        """Take the machine away unasked. The status is in the specification; what brings it about is not."""
        await self._end(instance, "preempted", PREEMPTED_LISTED)
        self._context.log("cloud", "preempt-machine", instance)

    async def _end(self, instance: Instance, status: str, listed: float) -> None:
        await self._context.halt(instance.id)
        await self._context.hosts.end(instance.id)
        now = self._context.clock.now()
        if instance.gone is None:
            instance.gone = now
            instance.settle(now)
        instance.status, instance.ip = status, None
        instance.left = self._context.clock.later(listed)
        self._context.save()


def mount_point_of(volume: Volume) -> str:
    """Where a filesystem appears when the launch says nothing else."""
    return f"/lambda/nfs/{volume.name}"


def _host_key(user_data: str) -> str:
    """The host key that cloud-init finds in an instance's user data; "": none, and it makes one."""
    import yaml

    said = yaml.safe_load(user_data) if user_data.startswith("#cloud-config") else None
    keys = said.get("ssh_keys") if isinstance(said, dict) else None
    return str(keys.get("ed25519_private", "")) if isinstance(keys, dict) else ""
