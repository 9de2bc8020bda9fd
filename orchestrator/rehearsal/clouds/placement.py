"""Where a pod goes and what it costs: RunPod's cross-field rules, decided from the catalogue alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from orchestrator.rehearsal.clouds.catalogue import CPUS, GPUS, PLACES, Cpu, Gpu, Place
from orchestrator.rehearsal.clouds.records import Volume

# Recorded from the live service; it has no code of its own for want of machines.
NO_CAPACITY = (
    "There are no longer any instances available with the requested specifications. Please refresh and try again."
)
# What hosts report, the oldest first: a create that asks for no version gets an old driver, as users of images that
# need a newer one report.
CUDA_VERSIONS = ("12.4", "12.8", "12.9")
LEAST_VCPUS, LEAST_GB = 2, 8  # for each GPU, where a create asks for no more: the older API's documented defaults
MOST_ENVIRONMENT = 50


class ProblemError(Exception):
    """A definite no: RunPod's problem+json, or GraphQL's business error."""

    def __init__(self, status: int, detail: str, errors: list[str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors


@dataclass(frozen=True, kw_only=True)
class PodRequest:
    """A create, however it came in. `gpu_count` None: left out; `bid` is USD for one GPU and hour."""

    name: str
    image: str
    api: str
    args: str = ""
    disk: int = 50
    ports: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    registry: str | None = None
    cloud: str = "SECURE"
    places: tuple[str, ...] = ()
    gpu_id: str | None = None
    gpu_count: int | None = None
    cuda_allowed: tuple[str, ...] = ()
    cuda_minimum: str | None = None
    gpu_vcpus: int | None = None  # at least, for each GPU
    gpu_ram_gb: int | None = None
    cpu_id: str | None = None
    vcpu: int = 0
    volume_id: str | None = None
    mount_path: str = ""
    persistent: tuple[int, str] | None = None
    global_networking: bool = False
    start_ssh: bool = False
    start_jupyter: bool = False
    bid: Decimal | None = None
    terminate_after: datetime | None = None
    stop_after: datetime | None = None
    base_url: str = ""


@dataclass(frozen=True)
class Placement:
    """The place, and USD an hour for the whole pod."""

    place: str
    price_hour: Decimal
    cuda: str = CUDA_VERSIONS[-1]


def check(request: PodRequest) -> None:
    """Raise ProblemError 400 for what breaks a rule whatever is in stock."""
    if (request.gpu_id is None) == (request.cpu_id is None):
        raise ProblemError(400, "exactly one of gpu or cpu must be set")
    if request.persistent and request.volume_id:
        raise ProblemError(400, "mounts.persistent and mounts.network are mutually exclusive")
    if request.cpu_id and request.persistent:
        raise ProblemError(400, "mounts.persistent is not supported on CPU pods")
    if request.cloud == "COMMUNITY" and request.volume_id:
        raise ProblemError(400, "network volumes are only available on SECURE cloud")
    if request.cuda_allowed and request.cuda_minimum:
        raise ProblemError(400, "allowedCudaVersions and minCudaVersion are mutually exclusive")
    if len(request.env) > MOST_ENVIRONMENT:
        raise ProblemError(400, f"at most {MOST_ENVIRONMENT} environment variables are allowed")
    if request.global_networking and request.gpu_id is None:
        raise ProblemError(400, "global networking requires an NVIDIA GPU")
    for port in request.ports:
        if not re.fullmatch(r"\d{1,5}/(tcp|http)", port):
            raise ProblemError(400, f"port {port!r} is not PORT/tcp or PORT/http")
    if request.cpu_id:
        _check_cpu(request)


def _check_cpu(request: PodRequest) -> None:
    flavour = CPUS.get(request.cpu_id or "")
    if flavour is None:
        raise ProblemError(400, f"cpu flavor {request.cpu_id!r} not found")
    if request.vcpu & (request.vcpu - 1) or request.vcpu > flavour.max_vcpu:
        raise ProblemError(400, f"vcpuCount must be a power of two between 2 and {flavour.max_vcpu}")
    most = request.vcpu * flavour.disk_gb_per_vcpu
    if request.disk > most:  # how the live service words it is not documented
        raise ProblemError(400, f"disk must be at most {most} GB for {request.vcpu} vCPUs of {flavour.id}")


def place(request: PodRequest, volume: Volume | None, bids: Mapping[str, Decimal] | None = None) -> Placement:
    """Put a checked request somewhere. ProblemError 400, for a broken rule or for want of machines.

    `bids`: see bid_for.
    """
    places = _eligible(request, volume)
    if request.cpu_id:
        flavour = CPUS[request.cpu_id]
        return Placement(_first(places, lambda p: flavour.id in p.cpus), flavour.price * request.vcpu)
    gpu = GPUS.get(request.gpu_id or "")
    if gpu is None:
        raise ProblemError(400, f"gpu type {request.gpu_id!r} not found")
    cuda = _host_cuda(request)
    if request.gpu_count is None:
        # Documented to be 1 by default; creates without it were refused so on the live service.
        raise ProblemError(400, NO_CAPACITY)
    count = request.gpu_count
    if request.cloud == "COMMUNITY":
        return _in_community(gpu, count, cuda)
    least = bid_for(gpu, bids)
    if request.bid is not None and (least is None or request.bid < least):
        raise ProblemError(400, NO_CAPACITY)  # what a bid below the minimum is told is not documented
    where = _first(places, lambda p: p.gpus.get(gpu.id, ("", 0))[1] >= count)
    return Placement(where, (request.bid or gpu.secure) * count, cuda)


def bid_for(gpu: Gpu, bids: Mapping[str, Decimal] | None) -> Decimal | None:
    """The lowest bid for one GPU: as it was seen (None there: made up), or None: it is not sold so."""
    return gpu.minimum_bid if bids is None else bids.get(gpu.id)


def _eligible(request: PodRequest, volume: Volume | None) -> list[Place]:
    for wanted in request.places:
        if wanted not in PLACES:
            raise ProblemError(400, f"data center {wanted!r} not found")
    names = list(request.places) or list(PLACES)
    if volume is not None:
        if request.places and volume.place not in request.places:
            raise ProblemError(400, f"network volume {volume.id} is in data center {volume.place}")
        names = [volume.place]
    places = [PLACES[name] for name in names]
    if request.global_networking:
        places = [place for place in places if place.global_network]
        if not places:
            raise ProblemError(400, "global networking is not available in the requested data centers")
    return places


def _first(places: list[Place], sells: Callable[[Place], bool]) -> str:
    for candidate in places:
        if sells(candidate):
            return candidate.id
    raise ProblemError(400, NO_CAPACITY)


def _in_community(gpu: Gpu, count: int, cuda: str) -> Placement:
    # Community machines stand in no data centre of RunPod's: the rehearsal puts them all in one place.
    if gpu.community is None or count > gpu.max_community:
        raise ProblemError(400, NO_CAPACITY)
    return Placement("", gpu.community * count, cuda)


def version(text: str) -> tuple[int, ...]:
    """`12.8` as numbers: 12.11 is above 12.2."""
    return tuple(int(part) for part in text.split("."))


def hosts_cuda(allowed: tuple[str, ...], minimum: str | None) -> list[str]:
    """The versions of hosts that satisfy a request, the oldest first."""
    least = version(minimum or "0.0")
    return [v for v in CUDA_VERSIONS if version(v) >= least and (not allowed or v in allowed)]


def _host_cuda(request: PodRequest) -> str:
    found = hosts_cuda(request.cuda_allowed, request.cuda_minimum)
    if not found:
        raise ProblemError(400, NO_CAPACITY)  # an impossible version is a capacity error, says the specification
    return found[0]


def image_cuda(image: str) -> str:
    """The CUDA that an image's name says that it needs, as `cu1281` does; "": it says nothing."""
    found = re.search(r"cu(\d\d)(\d)", image)
    return f"{found[1]}.{found[2]}" if found else ""


def memory_gb(flavour: Cpu, vcpu: int) -> int:
    """GB of RAM of a CPU pod."""
    return flavour.ram_gb_per_vcpu * vcpu
