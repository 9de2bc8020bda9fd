"""The life of a RunPod pod: made, booted, stopped, started, taken away, ended. REST and GraphQL both call this.

Delays are in cloud seconds. No document states them: a boot of half a minute is what clients report.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from orchestrator.rehearsal.clouds import account
from orchestrator.rehearsal.clouds.catalogue import disk_price_hour
from orchestrator.rehearsal.clouds.context import (
    DEAD,
    MENDED,
    STILL_LISTED,
    STUBBORN,
    Context,
    DoneButFailedError,
    private_late,
)
from orchestrator.rehearsal.clouds.placement import (
    NO_CAPACITY,
    PodRequest,
    ProblemError,
    check,
    image_cuda,
    place,
    version,
)
from orchestrator.rehearsal.clouds.pod_making import change_mounts, host_spec, new_pod
from orchestrator.rehearsal.clouds.records import Pod, Volume

PROVISIONING, STARTING, WITHOUT_ADDRESS = 10.0, 12.0, 8.0
RESTARTING = 5.0
PRIVATE_ADDRESS_LATE = 20.0  # after SSH answers; the specification says only "when assigned"
BOOT = PROVISIONING + STARTING + WITHOUT_ADDRESS
OFFICIAL = "runpod/"  # images whose start script prints the host keys
_CONTAINER = {"image", "args", "disk", "ports", "env", "registry"}

_REFUSALS = {
    "create-refused-capacity": (400, NO_CAPACITY),
    "create-refused-payment": (402, "insufficient balance"),
    "create-refused-pool": (403, "your account cannot access the requested pool"),
    "create-refused-access": (403, "access denied"),
}

ACTIONS = {
    "PROVISIONING": ["stop", "terminate"],
    "STARTING": ["stop", "terminate"],
    "RUNNING": ["stop", "restart", "terminate"],
    "EXITED": ["start", "terminate"],
    "ERROR": ["start", "terminate"],
    "TERMINATED": [],
}


class Pods:
    """Every pod of the account."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._leaving: set[str] = set()

    def listing(self) -> list[Pod]:
        """What the API shows, oldest first."""
        return [pod for pod in self._context.records.pods.values() if self._visible(pod)]

    def get(self, pod_id: str) -> Pod:
        """A pod by id. ProblemError 404: unknown, ended, or too fresh (which no client can tell apart)."""
        pod = self._context.records.pods.get(pod_id)
        if pod is None or not self._visible(pod):
            # Whether a terminated pod answers 404 at once is not documented; here it does.
            raise ProblemError(404, "pod not found")
        return pod

    def _visible(self, pod: Pod) -> bool:
        return pod.gone is None and self._context.clock.since(pod.created) >= pod.unseen_s

    def volume(self, volume_id: str) -> Volume:
        """A network volume by id, or ProblemError 404."""
        volume = self._context.records.volumes.get(volume_id)
        if volume is None or volume.gone is not None or volume.vendor != "runpod":
            raise ProblemError(404, "network volume not found")
        return volume

    async def create(self, request: PodRequest) -> Pod:
        """Make a pod, or raise ProblemError (nothing was made) or ReplyLostError (it was)."""
        check(request)
        volume = self.volume(request.volume_id) if request.volume_id else None
        if request.bid is not None and self._context.faults.take("spot-gone"):
            raise ProblemError(400, NO_CAPACITY)
        for fault, (status, detail) in _REFUSALS.items():
            if self._context.faults.take(fault):
                raise ProblemError(status, detail)
        placement = place(request, volume, self._context.seen("runpod").bids)
        if account.left(self._context) < placement.price_hour:  # an hour of it is to be there, says the vendor
            raise ProblemError(402, "insufficient balance")
        if self._context.faults.take("price-higher"):
            placement = replace(placement, price_hour=placement.price_hour * Decimal("1.25"))
        pod = new_pod(self._context, request, placement)
        self._context.records.pods[pod.id] = pod
        self._context.log(request.api, "create-machine", pod, vendor="runpod", price_hour=str(pod.price_hour))
        self._context.run(pod.id, self._boot(pod))
        if self._context.records.credit < account.ENOUGH:
            self._context.run(f"{pod.id} credit", self._while_there_is_credit(pod))
        if request.stop_after:
            self._context.run(f"{pod.id} stop-after", self._fence(pod, request.stop_after, self.stop))
        if request.terminate_after:
            self._context.run(f"{pod.id} terminate-after", self._fence(pod, request.terminate_after, self._expire))
        return pod

    async def _boot(self, pod: Pod) -> None:
        clock, faults = self._context.clock, self._context.faults
        if faults.take("boot-never"):
            return
        await clock.sleep(PROVISIONING * self._slowness)
        self._move(pod, "STARTING")
        await clock.sleep(STARTING * self._slowness)
        if faults.take("boot-error"):
            self._move(pod, "ERROR")
            return
        await self._up(pod)

    async def _up(self, pod: Pod) -> None:
        """RUNNING comes before the ports do, as recorded from the live service."""
        address = None
        async with self._context.locked(pod.id):
            # Without a published 22/tcp, or without a key, nobody gets in: then there is no host to emulate.
            reachable = "22/tcp" in pod.ports and pod.public_key and self._starts(pod)
            if reachable and not self._context.faults.take("boot-no-address"):
                try:
                    host = await self._context.hosts.boot(host_spec(self._context, pod))
                except (OSError, ValueError) as error:
                    self._move(pod, "ERROR")
                    self._context.log("cloud", "boot-failed", pod, reason=str(error))
                    return
                address = (host.host, host.port)
                if pod.hangs == DEAD:
                    await self._context.hosts.hang(pod.id)
                if pod.image.startswith(OFFICIAL) and host.host_key:
                    self._print(pod, "SSH host keys:", f"256 {host.host_key} root@{pod.id} (ED25519)")
        pod.started = self._context.clock.now()
        pod.charge(disk_price_hour(pod.disk), pod.started, disk=True)
        self._move(pod, "RUNNING")
        await self._context.clock.sleep(WITHOUT_ADDRESS * self._slowness)
        pod.address = address
        self._context.save()
        await self._context.clock.sleep(private_late(self._context.seen("runpod"), BOOT, PRIVATE_ADDRESS_LATE))
        never = self._context.seen("runpod").private_never
        pod.shows_private_ip = not (self._context.faults.take("private-address-never") or never)
        self._context.save()

    @property
    def _slowness(self) -> float:
        """How much longer than here a boot was seen to take."""
        seen = self._context.seen("runpod").address_s
        return 1.0 if seen is None else seen / BOOT

    def _starts(self, pod: Pod) -> bool:
        """Whether the host's driver is new enough for the image; one that is not stays so for ever, as reported."""
        need = image_cuda(pod.image) if pod.gpu_id else ""
        pod.said.append((self._context.clock.now(), f"create container {pod.image}"))
        if not need or version(pod.cuda) >= version(need):
            return True
        why = f"unsatisfied condition: cuda>={need}, please update your driver to a newer version"
        pod.said.append((self._context.clock.now(), f"error starting container: nvidia-container-cli: {why}"))
        return False

    def _print(self, pod: Pod, *lines: str) -> None:
        pod.printed += [(self._context.clock.now(), line) for line in lines]

    def _move(self, pod: Pod, status: str) -> None:
        pod.status, pod.changed = status, self._context.clock.now()
        self._context.save()

    async def act(self, pod: Pod, action: str, api: str) -> None:
        """Do what the action endpoint does. ProblemError 409: not in this status."""
        if action not in ACTIONS[pod.status]:
            raise ProblemError(409, f"cannot {action} a pod with status {pod.status}")
        if pod.locked and action in {"stop", "restart"}:
            raise ProblemError(409, "pod is locked")
        if action == "restart" and pod.hangs == STUBBORN:
            raise ProblemError(409, "cannot restart a pod whose host does not answer")
        await {"start": self.start, "stop": self.stop, "restart": self.restart, "terminate": self.terminate}[action](
            pod, api
        )

    async def update(self, pod: Pod, changes: dict[str, Any], api: str) -> None:
        """Change what may be changed; a change of the container restarts it. ProblemError 400, 404 or 409."""
        if "templateId" in changes:
            raise ProblemError(404, "template not found")
        change_mounts(pod, changes.get("mounts") or {})
        if "globalNetworking" in changes and changes["globalNetworking"] != (pod.private_ip is not None):
            # It would take effect at the next start only; gpuplan asks for it at create.
            raise ProblemError(501, "the rehearsal sets globalNetworking at create only")
        for key in ("name", "locked", "image", "args", "disk", "ports", "env", "registry"):
            if key in changes:
                setattr(pod, key, changes[key])
        self._context.log(api, "update-machine", pod)
        if pod.status == "RUNNING" and _CONTAINER & set(changes):
            await self.restart(pod, api)

    async def start(self, pod: Pod, api: str) -> None:
        """Boot a stopped pod again. An interruptible one was outbid: ProblemError for want of machines."""
        if pod.interruptible:
            raise ProblemError(400, NO_CAPACITY)
        pod.charge(pod.price_hour, self._context.clock.now())
        self._move(pod, "PROVISIONING")
        self._context.log(api, "start-machine", pod)
        self._context.run(pod.id, self._boot(pod))

    async def stop(self, pod: Pod, api: str) -> None:
        """Release the machine: the container's disk is wiped, a persistent mount is kept."""
        await self._down(pod)
        self._exit(pod, api, "stop-machine")

    async def restart(self, pod: Pod, api: str) -> None:
        """Restart the container in place: its disk is wiped, its SSH port and its host key change."""
        await self._down(pod)
        if pod.hangs == MENDED:
            pod.hangs = ""
        pod.settle_disk(self._context.clock.now())
        self._move(pod, "STARTING")
        self._context.log(api, "restart-machine", pod)
        self._context.run(pod.id, self._again(pod))

    async def _again(self, pod: Pod) -> None:
        await self._context.clock.sleep(RESTARTING)
        await self._up(pod)

    async def terminate(self, pod: Pod, api: str) -> None:
        """End a pod for good. Returns when every process of it is dead, unless a fault is armed."""
        faults = self._context.faults
        if faults.take("delete-refused"):
            raise ProblemError(503, "upstream unavailable")
        if faults.take("delete-404"):
            raise ProblemError(404, "pod not found")
        self._context.log(api, "destroy-machine", pod)
        if pod.id in self._leaving:
            return
        listed = self._context.seen("runpod").unlisted_s or 0.0
        if faults.take("delete-still-listed"):
            listed = STILL_LISTED
        if listed:
            self._leaving.add(pod.id)
            self._context.run(f"{pod.id} leaving", self._linger(pod, listed))
            return
        await self._gone(pod)
        if faults.take("delete-500"):
            raise DoneButFailedError

    async def _linger(self, pod: Pod, seconds: float) -> None:
        await self._context.clock.sleep(seconds)
        await self._gone(pod)

    async def _gone(self, pod: Pod) -> None:
        await self._down(pod, for_good=True)
        if pod.gone is None:
            pod.gone = self._context.clock.now()
            pod.settle(pod.gone)
            self._move(pod, "TERMINATED")
        for fence in ("stop-after", "terminate-after", "credit"):
            await self._context.halt(f"{pod.id} {fence}")

    async def _fence(self, pod: Pod, moment: datetime, end: Callable[[Pod, str], Awaitable[None]]) -> None:
        await self._context.clock.sleep_until(moment)
        await end(pod, "cloud")

    async def _while_there_is_credit(self, pod: Pod) -> None:
        while pod.gone is None and pod.status != "EXITED":
            await self._context.clock.sleep(account.LOOK)
            if account.left(self._context) <= 0 and pod.status != "EXITED":
                await self.stop(pod, "cloud")

    async def _expire(self, pod: Pod, api: str) -> None:
        self._context.log(api, "expire-machine", pod)
        await self._gone(pod)

    async def preempt(self, pod: Pod) -> None:
        """Take the machine away unasked: the container's disk is wiped, the processes are killed, the port closes."""
        if pod.status in {"EXITED", "TERMINATED"}:
            return
        await self._down(pod)
        self._exit(pod, "cloud", "preempt-machine")

    def _exit(self, pod: Pod, api: str, action: str) -> None:
        if pod.gone is None:  # it may have been deleted while its host was ending
            pod.settle(self._context.clock.now())
            self._move(pod, "EXITED")
            self._context.log(api, action, pod)

    async def _down(self, pod: Pod, *, for_good: bool = False) -> None:
        await self._context.halt(pod.id)
        pod.address = None
        await self._context.hosts.end(pod.id, keep_disk=pod.persistent is not None and not for_good)
