"""REST v2's catalogue: prices always, stock when `include` and `product` ask for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.rehearsal.clouds.catalogue import CPUS, GPUS, PLACES, Cpu, Gpu, Place
from orchestrator.rehearsal.clouds.placement import ProblemError, hosts_cuda

NONE = "NONE"
_LEVELS = ("HIGH", "MEDIUM", "LOW", NONE)
_STOCK_ONLY = ("product", "count", "cloud", "countryCodes", "cudaVersions", "minCudaVersion", "vcpuCount")
_SERVERLESS = 1.5  # the example's ratio of a serverless to a pod price; nothing in gpuplan reads it


@dataclass(frozen=True)
class Filter:
    """What a catalogue read asks for."""

    stock: bool
    count: int = 1
    cloud: str = "SECURE"
    countries: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()  # the hosts' versions that pass


def read_filter(query: Mapping[str, str], products: tuple[str, ...]) -> Filter:
    """Read the query. ProblemError 400 for a broken rule, 422 for a malformed value; unknown names are ignored."""
    include = _listed(query, "include", ("AVAILABILITY",))
    if not include:
        for name in _STOCK_ONLY:
            if name in query:
                raise ProblemError(400, f"{name} requires include=AVAILABILITY")
        return Filter(stock=False)
    if not _listed(query, "product", products):
        raise ProblemError(400, "include=AVAILABILITY requires product")
    if "cudaVersions" in query and "minCudaVersion" in query:
        raise ProblemError(400, "cudaVersions and minCudaVersion are mutually exclusive")
    return Filter(
        stock=True,
        count=_count(query.get("count", "1")),
        cloud=_one_of(query, "cloud", ("SECURE", "COMMUNITY")),
        countries=_matching(query, "countryCodes", r"[A-Z]{2}"),
        cuda=_cuda_passing(query),
    )


def _cuda_passing(query: Mapping[str, str]) -> tuple[str, ...]:
    exact = _matching(query, "cudaVersions", r"\d+\.\d+")
    floor = _matching(query, "minCudaVersion", r"\d+(\.\d+)?")
    return tuple(hosts_cuda(exact, floor[0] if floor else None))


def _listed(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    values = tuple(value for value in query.get(name, "").split(",") if value)
    for value in values:
        if value not in allowed:
            raise ProblemError(422, "Request validation failed.", [f"query.{name}: {value!r} is not one of {allowed}"])
    return values


def _one_of(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    return (_listed(query, name, allowed) or allowed)[0]


def _matching(query: Mapping[str, str], name: str, pattern: str) -> tuple[str, ...]:
    values = tuple(value for value in query.get(name, "").split(",") if value)
    for value in values:
        if not re.fullmatch(pattern, value):
            raise ProblemError(422, "Request validation failed.", [f"query.{name}: {value!r} does not match {pattern}"])
    return values


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ProblemError(422, "Request validation failed.", [f"query.count: {text!r} is not a positive integer"])
    return int(text)


def gpus(query: Mapping[str, str]) -> dict[str, Any]:
    """ListGpuTypesResponse. With countryCodes a type that none of them has drops out."""
    wanted = read_filter(query, ("POD", "CLUSTER", "SERVERLESS"))
    rows = [gpu_json(gpu, wanted) for gpu in GPUS.values()]
    return {"gpus": [row for row in rows if not wanted.countries or "dataCenters" in row]}


def gpu(gpu_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """One GpuType, or ProblemError 404."""
    if gpu_id not in GPUS:
        raise ProblemError(404, "gpu type not found")
    return gpu_json(GPUS[gpu_id], read_filter(query, ("POD", "CLUSTER", "SERVERLESS")))


def gpu_json(kind: Gpu, wanted: Filter) -> dict[str, Any]:
    """A GpuType of the specification."""
    price: dict[str, Any] = {"secure": float(kind.secure), "community": float(kind.community or 0)}
    if kind.pool:
        price["serverless"] = round(float(kind.secure) * _SERVERLESS, 2)
    row: dict[str, Any] = {
        "id": kind.id,
        "name": kind.name,
        "pool": kind.pool,
        "manufacturer": "NVIDIA",
        "memory": kind.memory_gb,
        "secure": True,
        "community": kind.community is not None,
        "price": price,
        "maxCount": {"secure": kind.max_secure, "community": kind.max_community},
    }
    if wanted.stock:
        row |= _stock(kind, wanted)
    return row


def _stock(kind: Gpu, wanted: Filter) -> dict[str, Any]:
    if wanted.cloud == "COMMUNITY":
        level = "MEDIUM" if kind.community is not None and wanted.count <= kind.max_community else NONE
        return {"availability": level}
    rows = []
    for place in PLACES.values():
        level, most = place.gpus.get(kind.id, (NONE, 0))
        if most >= wanted.count and wanted.cuda and (not wanted.countries or place.country in wanted.countries):
            # Live data centres have a name equal to their id, unlike the specification's example.
            rows.append({"id": place.id, "name": place.id, "availability": level})
    stock: dict[str, Any] = {"availability": _best([row["availability"] for row in rows])}
    if rows:
        stock |= {"dataCenters": rows, "cudaVersions": [{"version": v, "available": True} for v in wanted.cuda]}
    return stock


def _best(levels: list[str]) -> str:
    return min(levels, key=_LEVELS.index, default=NONE)


def cpus(query: Mapping[str, str]) -> dict[str, Any]:
    """ListCpuTypesResponse."""
    wanted = read_filter(query, ("POD", "SERVERLESS"))
    return {"cpus": [cpu_json(cpu, wanted) for cpu in CPUS.values()]}


def cpu(cpu_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """One CpuType, or ProblemError 404."""
    if cpu_id not in CPUS:
        raise ProblemError(404, "cpu type not found")
    return cpu_json(CPUS[cpu_id], read_filter(query, ("POD", "SERVERLESS")))


def cpu_json(kind: Cpu, wanted: Filter) -> dict[str, Any]:
    """A CpuType of the specification."""
    row: dict[str, Any] = {
        "id": kind.id,
        "name": kind.name,
        "group": kind.group,
        "vcpu": {"min": 2, "max": kind.max_vcpu},
        "ramGbPerVcpu": kind.ram_gb_per_vcpu,
        "price": {"securePerVcpu": float(kind.price), "serverlessPerVcpu": float(kind.price)},
    }
    if wanted.stock:
        rows = [
            {"id": place.id, "name": place.id, "availability": place.cpus[kind.id]}
            for place in PLACES.values()
            if kind.id in place.cpus
        ]
        row["availability"] = _best([entry["availability"] for entry in rows])
        row |= {"dataCenters": rows} if rows else {}
    return row


def data_centers(query: Mapping[str, str]) -> dict[str, Any]:
    """ListDataCentersResponse: values of one filter are alternatives (regions) or all needed (the others)."""
    include = _listed(query, "include", ("GPU_AVAILABILITY", "CPU_AVAILABILITY"))
    regions = tuple(value for value in query.get("regions", "").split(",") if value)
    types = _listed(query, "networkVolumeTypes", ("STANDARD", "HIGH_PERFORMANCE"))
    certified = tuple(value for value in query.get("compliance", "").split(",") if value)
    network = _one_of(query, "globalNetwork", ("true", "false")) if "globalNetwork" in query else None
    rows = [
        data_center_json(place, include)
        for place in PLACES.values()
        if (not regions or place.region in regions)
        and set(types) <= set(place.volumes)
        and set(certified) <= set(place.compliance)
        and (network is None or place.global_network == (network == "true"))
    ]
    return {"dataCenters": rows}


def data_center(place_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """One DataCenter, or ProblemError 404."""
    if place_id not in PLACES:
        raise ProblemError(404, "data center not found")
    return data_center_json(PLACES[place_id], _listed(query, "include", ("GPU_AVAILABILITY", "CPU_AVAILABILITY")))


def data_center_json(place: Place, include: tuple[str, ...]) -> dict[str, Any]:
    """A DataCenter of the specification."""
    row: dict[str, Any] = {
        "id": place.id,
        "name": place.id,
        "region": place.region,
        "globalNetwork": place.global_network,
        "networkVolumeTypes": list(place.volumes),
        "compliance": list(place.compliance),
    }
    if "GPU_AVAILABILITY" in include and place.gpus:
        stock = [{"id": i, "name": GPUS[i].name, "availability": level} for i, (level, _) in place.gpus.items()]
        row["gpuAvailability"] = stock
    if "CPU_AVAILABILITY" in include and place.cpus:
        row["cpuAvailability"] = [
            {"id": i, "name": CPUS[i].name, "availability": level} for i, level in place.cpus.items()
        ]
    return row
