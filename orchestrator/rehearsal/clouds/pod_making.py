"""What a RunPod pod is made of: its record out of a request, the host that stands for it, what its mounts become."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

from orchestrator.rehearsal.clouds.catalogue import GPUS
from orchestrator.rehearsal.clouds.context import Context
from orchestrator.rehearsal.clouds.placement import (
    CUDA_VERSIONS,
    LEAST_GB,
    LEAST_VCPUS,
    NO_CAPACITY,
    Placement,
    PodRequest,
    ProblemError,
)
from orchestrator.rehearsal.clouds.records import Pod, Volume
from orchestrator.rehearsal.host_spec import HostSpec
from orchestrator.words.observed import Observed

UNSEEN, UNSEEN_LONG = 4.0, 60.0  # a fresh pod is missing from list and GET (reported, never documented)


def new_pod(context: Context, request: PodRequest, placement: Placement) -> Pod:
    """The pod that a request makes on a machine; it is in no record yet."""
    now, seen = context.clock.now(), context.seen("runpod").listed_s
    registered = "\n".join(context.records.account_keys) if request.start_ssh else ""
    env = dict(request.env)
    if request.start_jupyter:
        env.setdefault("JUPYTER_PASSWORD", context.token(8))
    pod = Pod(
        id=context.token(7),
        name=request.name,
        created=now,
        changed=now,
        image=request.image,
        args=request.args,
        disk=request.disk,
        ports=list(request.ports),
        env=env,
        registry=request.registry,
        cloud=request.cloud,
        place=placement.place,
        gpu_id=request.gpu_id,
        gpu_count=request.gpu_count or 0,
        cuda=CUDA_VERSIONS[0] if context.faults.take("boot-old-driver") else placement.cuda,
        gpu_vcpus=request.gpu_vcpus or LEAST_VCPUS,
        gpu_ram_gb=request.gpu_ram_gb or LEAST_GB,
        cpu_id=request.cpu_id,
        vcpu=request.vcpu,
        price_hour=placement.price_hour,
        volume_id=request.volume_id,
        mount_path=request.mount_path,
        persistent=request.persistent,
        public_key=request.env.get("SSH_PUBLIC_KEY") or request.env.get("PUBLIC_KEY") or registered,
        private_ip=_private_ip(context) if request.global_networking else None,
        interruptible=request.bid is not None,
        unseen_s=UNSEEN_LONG if context.faults.take("list-lag") else UNSEEN if seen is None else seen,
        api_key="rpa_" + context.token(16),
        base_url=request.base_url,
    )
    pod.charge(placement.price_hour, now)
    return pod


def _private_ip(context: Context) -> str:
    """An address that processes can bind here: one of loopback's where it has many, as on Linux."""
    if sys.platform != "linux":
        return "127.0.0.1"
    taken = {pod.private_ip for pod in context.records.pods.values() if pod.gone is None}
    free = next((ip for n in range(2, 255) if (ip := f"127.0.1.{n}") not in taken), None)
    if free is None:
        raise ProblemError(400, NO_CAPACITY)
    return free


def host_spec(context: Context, pod: Pod) -> HostSpec:
    """The host that stands for a pod's container: what the cloud injects is over what the request set."""
    gpu = GPUS[pod.gpu_id] if pod.gpu_id else None
    volume = context.records.volumes[pod.volume_id] if pod.volume_id else None
    injected = {
        "RUNPOD_POD_ID": pod.id,
        "RUNPOD_DC_ID": pod.place,
        "RUNPOD_POD_HOSTNAME": pod.id,
        "RUNPOD_GPU_COUNT": str(pod.gpu_count),
        "RUNPOD_CPU_COUNT": str(pod.vcpu or pod.gpu_vcpus * pod.gpu_count),
        "RUNPOD_PUBLIC_IP": "127.0.0.1",
        "RUNPOD_API_KEY": pod.api_key,
        # Ours: so that what runs on the machine finds the emulator, as the SDK's own variable allows.
        "RUNPOD_API_BASE_URL": pod.base_url,
        "PUBLIC_KEY": pod.public_key,
    } | ({"RUNPOD_VOLUME_ID": volume.id} if volume else {})
    return HostSpec(
        id=pod.id,
        name=pod.name,
        user="root",
        gpu=gpu.id if gpu else "",
        gpus=0 if context.faults.take("boot-no-gpu") else pod.gpu_count,
        gpu_memory_mib=gpu.memory_mib if gpu else 0,
        public_key=pod.public_key,
        volume=volume.folder if volume else None,
        disk_gb=_disk_gb(context.seen("runpod"), volume),
        env={**pod.env, **injected},
    )


def _disk_gb(seen: Observed, volume: Volume | None) -> Decimal | None:
    """What a machine with that volume sees; None: what this computer has."""
    if volume is None or seen.disk_gb is None:
        return None
    return Decimal(volume.size_gb) if seen.shows_quota else seen.disk_gb


def change_mounts(pod: Pod, mounts: dict[str, Any]) -> None:
    """Change a pod's mounts: nothing is attached late or elsewhere, only a path may change."""
    if "network" in mounts:
        if not mounts["network"]:
            raise ProblemError(400, "clearing mounts is not supported")
        if pod.volume_id is None:
            raise ProblemError(400, "a network mount cannot be added after create")
        if mounts["network"][0]["volumeId"] != pod.volume_id:
            raise ProblemError(400, "the volumeId of a network mount is immutable")
        pod.mount_path = mounts["network"][0]["path"]
    if "persistent" in mounts:
        if pod.persistent is None:
            raise ProblemError(400, "a persistent mount cannot be added after create")
        pod.persistent = (mounts["persistent"]["size"], mounts["persistent"]["path"])
