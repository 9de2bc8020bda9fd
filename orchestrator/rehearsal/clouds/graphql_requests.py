"""GraphQL's inputs as the one kind of create that pods know."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from orchestrator.rehearsal.clouds.placement import PodRequest, ProblemError


def gpu_request(wanted: dict[str, Any], api: str, base_url: str) -> PodRequest:
    """A create on demand, or an interruptible one when it carries a bid."""
    volume_id = wanted.get("networkVolumeId") or None
    size = wanted.get("volumeInGb") or 0
    gpus = [wanted["gpuTypeId"]] if wanted.get("gpuTypeId") else list(wanted.get("gpuTypeIdList") or [])
    if len(gpus) != 1:
        raise ProblemError(400, "the rehearsal takes exactly one gpuTypeId")
    cloud = wanted.get("cloudType") or "ALL"
    if cloud == "ALL":
        # ALL takes whatever is there; here that is secure first, and only secure has network volumes.
        cloud = "SECURE"
    return PodRequest(
        **_common(wanted, api, base_url),
        cloud=cloud,
        gpu_id=gpus[0],
        gpu_count=wanted.get("gpuCount"),
        cuda_allowed=tuple(wanted.get("allowedCudaVersions") or ()),
        cuda_minimum=wanted.get("cudaVersion"),
        gpu_vcpus=(wanted.get("minVcpuCount") or 0) // (wanted.get("gpuCount") or 1) or None,
        gpu_ram_gb=(wanted.get("minMemoryInGb") or 0) // (wanted.get("gpuCount") or 1) or None,
        volume_id=volume_id,
        persistent=(size, wanted.get("volumeMountPath") or "/workspace") if size and not volume_id else None,
        global_networking=bool(wanted.get("globalNetwork")),
        bid=Decimal(str(wanted["bidPerGpu"])) if "bidPerGpu" in wanted else None,
        terminate_after=_moment(wanted, "terminateAfter"),
        stop_after=_moment(wanted, "stopAfter"),
    )


def cpu_request(wanted: dict[str, Any], api: str, base_url: str) -> PodRequest:
    """A CPU pod: instanceId is FLAVOUR-VCPU-MEMORY, e.g. cpu3c-2-4."""
    flavour, _, rest = (wanted.get("instanceId") or "cpu3c-2-4").partition("-")
    vcpu = rest.partition("-")[0]
    if not vcpu.isdigit():
        raise ProblemError(400, f"instanceId {wanted.get('instanceId')!r} is not FLAVOUR-VCPU-MEMORY")
    return PodRequest(
        **_common(wanted, api, base_url),
        cpu_id=flavour,
        vcpu=int(vcpu),
        volume_id=wanted.get("networkVolumeId") or None,
    )


def _common(wanted: dict[str, Any], api: str, base_url: str) -> dict[str, Any]:
    if not wanted.get("imageName"):
        raise ProblemError(400, "imageName is required: the emulated account has no templates")
    return {
        "name": wanted.get("name") or "",
        "image": wanted["imageName"],
        "api": api,
        "args": wanted.get("dockerArgs") or "",
        "disk": wanted.get("containerDiskInGb") or 10,
        "ports": tuple(port for port in (wanted.get("ports") or "").replace(" ", "").split(",") if port),
        "env": {pair["key"]: pair["value"] for pair in wanted.get("env") or []},
        "places": (wanted["dataCenterId"],) if wanted.get("dataCenterId") else (),
        "mount_path": wanted.get("volumeMountPath") or "/workspace",
        "start_ssh": bool(wanted.get("startSsh")),
        "start_jupyter": bool(wanted.get("startJupyter")),
        "base_url": base_url,
    }


def _moment(wanted: dict[str, Any], name: str) -> datetime | None:
    text = wanted.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise ProblemError(400, f"{name} {text!r} is not an ISO 8601 time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
