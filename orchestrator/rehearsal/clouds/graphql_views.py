"""How GraphQL shows things: dictionaries by field name; a callable is a field that takes arguments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from orchestrator.rehearsal.clouds.catalogue import CPUS, GPUS, PLACES, Gpu, Place
from orchestrator.rehearsal.clouds.clock import stamp
from orchestrator.rehearsal.clouds.placement import bid_for, memory_gb
from orchestrator.rehearsal.clouds.records import Pod, Volume
from orchestrator.rehearsal.clouds.runpod_views import port_map

_MEMORY_PER_GPU_GB = 117  # of the host; made up, like its vCPUs


def pod_view(pod: Pod, now: datetime) -> dict[str, Any]:
    """A Pod. GraphQL knows RUNNING, EXITED and TERMINATED only: what is wanted, not what is."""
    gpu = GPUS[pod.gpu_id] if pod.gpu_id else None
    flavour = CPUS[pod.cpu_id] if pod.cpu_id else None
    up = max(0, int((now - pod.started).total_seconds())) if pod.started and pod.status == "RUNNING" else 0
    return {
        "id": pod.id,
        "name": pod.name,
        "imageName": pod.image,
        "desiredStatus": pod.status if pod.status in {"EXITED", "TERMINATED"} else "RUNNING",
        "podType": "INTERRUPTABLE" if pod.interruptible else "RESERVED",
        "costPerHr": float(pod.price_hour),
        "adjustedCostPerHr": float(pod.price_hour),
        "gpuCount": pod.gpu_count,
        "vcpuCount": pod.vcpu or (gpu.vcpus * pod.gpu_count if gpu else 0),
        "memoryInGb": memory_gb(flavour, pod.vcpu) if flavour else _MEMORY_PER_GPU_GB * pod.gpu_count,
        "containerDiskInGb": pod.disk,
        "volumeInGb": pod.persistent[0] if pod.persistent else 0,
        "volumeMountPath": pod.persistent[1] if pod.persistent else pod.mount_path,
        "networkVolumeId": pod.volume_id,
        "dockerArgs": pod.args,
        "env": [f"{key}={value}" for key, value in pod.env.items()],
        "ports": ",".join(pod.ports),
        "machineId": f"machine-{pod.id}",
        "machine": {
            "gpuDisplayName": gpu.name if gpu else None,
            "podHostId": f"{pod.id}-64411eb2",
            "location": PLACES[pod.place].country if pod.place else None,
            "dataCenterId": pod.place or None,
        },
        "runtime": {"uptimeInSeconds": up, "ports": _ports(pod)} if pod.address and pod.status == "RUNNING" else None,
        "createdAt": stamp(pod.created),
        "lastStartedAt": stamp(pod.started) if pod.started else None,
        "lastStatusChange": stamp(pod.changed) if pod.changed else None,
        "uptimeSeconds": up,
        "locked": pod.locked,
    }


def _ports(pod: Pod) -> list[dict[str, Any]]:
    return [
        {
            "ip": row["ip"],
            "isIpPublic": row["ip"] is not None,
            "privatePort": row["private"],
            "publicPort": row["public"],
            "type": row["type"],
        }
        for row in port_map(pod)
    ]


def volume_view(volume: Volume) -> dict[str, Any]:
    """A NetworkVolume."""
    return {"id": volume.id, "name": volume.name, "size": volume.size_gb, "dataCenterId": volume.place}


def data_center_view(place: Place) -> dict[str, Any]:
    """A DataCenter."""
    return {
        "id": place.id,
        "name": place.id,
        "location": place.country,
        "listed": True,
        "storageSupport": bool(place.volumes),
    }


def gpu_view(gpu: Gpu, bids: Mapping[str, Decimal] | None) -> dict[str, Any]:
    """A GpuType with all its prices for one GPU. `bids`: see placement.bid_for."""
    community, bid = gpu.community, bid_for(gpu, bids)
    least = None if bid is None else float(bid)
    return {
        "id": gpu.id,
        "displayName": gpu.name,
        "manufacturer": "Nvidia",
        "memoryInGb": gpu.memory_gb,
        "secureCloud": True,
        "communityCloud": community is not None,
        "securePrice": float(gpu.secure),
        "communityPrice": float(community) if community is not None else None,
        "secureSpotPrice": least,
        "communitySpotPrice": None,
        "maxGpuCount": gpu.max_secure,
        "maxGpuCountSecureCloud": gpu.max_secure,
        "maxGpuCountCommunityCloud": gpu.max_community,
        "lowestPrice": lambda _info, **arguments: _lowest_price(gpu, least, arguments.get("input") or {"gpuCount": 1}),
        "nodeGroupDatacenters": [data_center_view(place) for place in PLACES.values() if gpu.id in place.gpus],
    }


def _lowest_price(gpu: Gpu, least: float | None, wanted: dict[str, Any]) -> dict[str, Any]:
    """Prices of one GPU of a machine with so many; all null where it is not to be had."""
    places = [place for place in PLACES.values() if place.id == (wanted.get("dataCenterId") or place.id)]
    if wanted.get("countryCode"):
        places = [place for place in places if place.country == wanted["countryCode"]]
    stock = [place.gpus[gpu.id] for place in places if gpu.id in place.gpus]
    levels = [level for level, most in stock if most >= wanted["gpuCount"]]
    if not levels:
        return {"stockStatus": None}
    best = min(levels, key=("HIGH", "MEDIUM", "LOW").index)
    anywhere = wanted.get("secureCloud") is not True and not wanted.get("dataCenterId") and gpu.community is not None
    return {
        # Interruptible pods are sold from the secure cloud here: only that has network volumes.
        "minimumBidPrice": least,
        "uninterruptablePrice": float(gpu.community if anywhere and gpu.community is not None else gpu.secure),
        "stockStatus": best.capitalize(),
        "minVcpu": gpu.vcpus * wanted["gpuCount"],
        "minMemory": _MEMORY_PER_GPU_GB * wanted["gpuCount"],
        "availableGpuCounts": [n for n in (1, 2, 3, 4, 5, 6, 7, 8) if n <= max(most for _, most in stock)],
        "countryCode": None,
    }
