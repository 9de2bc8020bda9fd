"""RunPod: REST v2 for everything but interruptible pods, which only the older GraphQL API sells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx

from orchestrator.cost import HOURS_A_MONTH
from orchestrator.providers import ProviderAccess, runpod_catalog
from orchestrator.providers.http import Api, sensible
from orchestrator.providers.runpod_end_bill import end_bill_script
from orchestrator.words.errors import Ambiguous, ProviderUnavailable, Refused
from orchestrator.words.provider import (
    MACHINE_PREFIX,
    Address,
    Capability,
    Facts,
    MachineSpec,
    MachineStatus,
    MachineView,
    Offer,
    VolumeView,
)

if TYPE_CHECKING:
    from orchestrator.providers.runpod_graphql import RunPodGraphQL

REST_URL = "https://api.runpod.io/v2"
GRAPHQL_URL = "https://api.runpod.io/graphql"
SSH_PORT = "22/tcp"
LEAST_RAM, LEAST_VCPUS = "minRamPerGpu", "minVcpuCountPerGpu"  # newer than the published schema of August 2026

LOG_LINES = 1000  # of a pod's log, from before
QUOTA = re.compile(r'"?([a-z]+)"?\s*;\s*q=([0-9]{1,9})')
PRINTED_KEY = re.compile(r"\b[0-9]+ (SHA256:[A-Za-z0-9+/]{43}) ")

FIRST_TB_GB = 1000
TIER = "STANDARD"  # of volumes: left out, a data centre may take the dearer one
GB_MONTH, GB_MONTH_BEYOND, GB_MONTH_DEAR = Decimal("0.07"), Decimal("0.05"), Decimal("0.14")

STATUS: dict[str, MachineStatus] = {
    "PROVISIONING": MachineStatus.BOOTING,
    "STARTING": MachineStatus.BOOTING,
    "RUNNING": MachineStatus.READY,
    "EXITED": MachineStatus.STOPPED,  # pre-empted, out of credit or host maintenance: the API does not tell which
}
GONE = "TERMINATED"


class RunPod:
    """`Provider` on RunPod's Secure Cloud."""

    name = "runpod"
    capabilities = frozenset(
        {
            Capability.SPOT,
            Capability.VOLUMES,
            Capability.PRIVATE_NETWORK,
            Capability.BILLING,
            Capability.REBOOT,
            Capability.QUOTA,
        }
    )
    rented = True
    keeps_data = False
    list_lag_s = 90.0  # a fresh pod can be missing from list and GET; no bound is documented
    mount_path = "/workspace"

    def __init__(self, access: ProviderAccess) -> None:
        self._access = access
        self.shows_gpu, self.disk_share = access.shows_gpu, access.disk_share
        self._api = Api("RunPod", access.base_url or REST_URL, access, _words)
        self._spot: RunPodGraphQL | None = None

    @sensible
    def offers(self, *, gpus: int, spot: bool, min_cuda: str = "") -> list[Offer]:
        """See Provider. Only data centres that hold network volumes: a plan's place must be able to."""
        if spot and gpus == 0:
            return []
        kind = "CPU" if gpus == 0 else "GPU"
        centres = _rows(self._api.read("catalog/datacenters", {"include": f"{kind}_AVAILABILITY"}), "dataCenters")
        asked = {"include": "AVAILABILITY", "product": "POD"}
        if gpus == 0:
            cpus = _rows(self._api.read("catalog/cpus", asked), "cpus")
            return runpod_catalog.cpu_offers(cpus, centres)
        asked |= {"count": str(gpus), "cloud": "SECURE"} | ({"minCudaVersion": min_cuda} if min_cuda else {})
        types = _rows(self._api.read("catalog/gpus", asked), "gpus")
        found = runpod_catalog.gpu_offers(types, centres, gpus)
        return runpod_catalog.spot_offers(found, self._graphql().bids(gpus)) if spot else found

    def create(self, spec: MachineSpec) -> str:
        """See Provider. ProviderUnavailable: not accepted either (429, or the API cannot be reached)."""
        if self._access.explores and spec.offer.gpus:  # CPU pods have no private network
            spec = replace(spec, private_network=True)
        if spec.offer.spot:
            return self._graphql().create_spot(spec, ports(spec), self.mount_path)
        if self._access.vendor_deadline and spec.offer.gpus:  # CPU pods have no such deadline
            return self._graphql().create_on_demand(spec, ports(spec), self.mount_path)
        body = create_body(spec, self.mount_path)
        try:
            return _id(self._api.create("pods", body, barred=_pool_closed), "pod")
        except Refused as refusal:  # by a schema that is older than its own client: nothing was created
            if not spec.offer.gpus or "not allowed" not in refusal.message or LEAST_RAM not in refusal.message:
                raise
            body["gpu"] = {k: v for k, v in body["gpu"].items() if k not in (LEAST_RAM, LEAST_VCPUS)}
            return _id(self._api.create("pods", body, barred=_pool_closed), "pod")

    @sensible
    def machine(self, machine_id: str) -> MachineView | None:
        """See Provider."""
        pod = self._api.read(f"pods/{machine_id}")
        return None if pod is None or pod.get("status") == GONE else view(pod)

    def last_words(self, machine_id: str) -> list[str]:
        """See Provider. The stream stays open: what has not come within seconds is not waited for."""
        events = self._api.listen(f"pods/{machine_id}/logs", {"tail": "20"})
        return [line for event in events if (line := _log_line(event))]

    @sensible
    def machines(self) -> list[MachineView]:
        """See Provider."""
        pods = _rows(self._api.read("pods"), "pods")
        ours = (p for p in pods if str(p.get("name", "")).startswith(MACHINE_PREFIX))
        return [view(p) for p in ours if p.get("status") != GONE]

    def destroy(self, machine_id: str) -> None:
        """See Provider."""
        self._api.destroy("DELETE", f"pods/{machine_id}")

    def reboot(self, machine_id: str) -> None:
        """See Provider. The container's disk is wiped; port and host key are others, network volumes stay."""
        self._api.create(f"pods/{machine_id}/action", {"action": "restart"})

    def create_volume(self, name: str, size_gb: int, place: str) -> str:
        """See Provider. RunPod sells 10 to 4096 GB a volume."""
        body = {"name": name, "size": size_gb, "dataCenter": place} | ({} if self._access.explores else {"type": TIER})
        return _id(self._api.create("network-volumes", body), "volume")

    @sensible
    def volumes(self) -> list[VolumeView]:
        """See Provider."""
        found: list[VolumeView] = []
        params: dict[str, str] = {}
        while True:
            page = self._api.read("network-volumes", params)
            rows = _rows(page, "networkVolumes")
            for v in rows:
                if v["name"].startswith(MACHINE_PREFIX):
                    dear = v.get("type", TIER) != TIER
                    price = v["size"] * GB_MONTH_DEAR / HOURS_A_MONTH if dear else self.volume_price_hour(v["size"])
                    tier = v.get("type") or ""
                    found.append(VolumeView(v["id"], v["name"], v["size"], v["dataCenter"], price, tier))
            paging = dict(page or {}).get("pagination") or {}  # newer servers hand the list out in pages
            if not paging.get("hasNextPage") or paging.get("nextCursor") in {None, params.get("cursor")}:
                return found
            params = {"cursor": paging["nextCursor"]}

    def destroy_volume(self, volume_id: str) -> None:
        """See Provider."""
        self._api.destroy("DELETE", f"network-volumes/{volume_id}")

    def volume_price_hour(self, size_gb: int) -> Decimal:
        """See Provider: $0.07 a GB and month for the first TB, $0.05 beyond."""
        first = Decimal(min(size_gb, FIRST_TB_GB))
        return (first * GB_MONTH + (size_gb - first) * GB_MONTH_BEYOND) / HOURS_A_MONTH

    @sensible
    def billed(self, machine_ids: Iterable[str]) -> dict[str, Decimal]:
        """See Provider. A machine that billing does not know yet is left out."""
        wanted = set(machine_ids)
        if not wanted:
            return {}
        records = _rows(self._api.read("billing/pods", {"bucketSize": "day"}), "records")
        totals: dict[str, Decimal] = {}
        for record in records:
            if record["podId"] in wanted:
                totals[record["podId"]] = totals.get(record["podId"], Decimal(0)) + Decimal(record["totalAmount"])
        return totals

    def credit(self) -> Decimal | None:
        """See Provider. Only the older API knows it; where that is gone, nobody says."""
        return self._graphql().balance()

    def shows_host_key(self, machine_id: str, fingerprint: str) -> bool | None:
        """See Provider. The official images print their keys as they start SSH, as `ssh-keygen -l` does."""
        asked = {"source": "container", "tail": str(LOG_LINES)}
        log = self._api.listen(
            f"pods/{machine_id}/logs", asked, enough=lambda line: fingerprint in PRINTED_KEY.findall(line)
        )
        printed = PRINTED_KEY.findall("\n".join(log))
        return fingerprint in printed if printed else None

    @sensible
    def facts(self) -> Facts:
        """See Provider."""
        self._api.read("pods")
        return Facts(quotas=_quotas(self._api.policy), bids=self._graphql().bids(1))

    def end_bill_script(self) -> str:
        """See Provider."""
        return end_bill_script(self._access.graphql_url or GRAPHQL_URL, self._access.base_url or REST_URL)

    def _graphql(self) -> RunPodGraphQL:
        if self._spot is None:
            from orchestrator.providers.runpod_graphql import RunPodGraphQL

            self._spot = RunPodGraphQL(self._access)
        return self._spot


def ports(spec: MachineSpec) -> list[str]:
    """The ports to open: SSH always."""
    return list(dict.fromkeys((SSH_PORT, *spec.ports)))


def create_body(spec: MachineSpec, mount_path: str) -> dict[str, Any]:
    """The body of POST /pods. Unknown keys are a 422, so only what is meant is in it.

    The environment holds the public key and nothing else: RunPod hands it back in clear to whoever may list pods.
    """
    body: dict[str, Any] = {
        "name": spec.name,
        "image": spec.image,
        "cloud": "SECURE",
        "disk": spec.disk_gb,
        "ports": ports(spec),
        "env": {"PUBLIC_KEY": spec.public_key},
        "dataCenterIds": [spec.offer.place],
    }
    if spec.offer.gpus:
        # The count is documented to default to 1, and a create without it was seen to fail as sold out.
        body["gpu"] = {"id": spec.offer.type_id, "count": spec.offer.gpus}
        body["gpu"] |= {LEAST_VCPUS: runpod_catalog.VCPUS_A_GPU, LEAST_RAM: runpod_catalog.least_ram_gb(spec.offer)}
        if spec.min_cuda:  # else an old driver, on which the image's container never starts
            body["gpu"]["minCudaVersion"] = spec.min_cuda
    else:
        flavour, vcpus = runpod_catalog.cpu_type(spec.offer.type_id)
        body["cpu"] = {"id": flavour, "vcpuCount": vcpus}
        body["disk"] = min(spec.disk_gb, runpod_catalog.most_disk_gb(vcpus))
    if spec.volume_id:
        body["mounts"] = {"network": [{"volumeId": spec.volume_id, "path": mount_path}]}
    if spec.private_network:
        body["globalNetworking"] = True
    return body


def _quotas(policy: str) -> dict[str, int]:
    """The requests of each window, out of a RateLimit-Policy (`"minute";q=60;w=60, ...`)."""
    return {name: int(quota) for name, quota in QUOTA.findall(policy)}


def _pool_closed(status: int, words: str) -> bool:
    """Whether a refusal bars this kind of machine alone, not the account."""
    return status == httpx.codes.FORBIDDEN and "pool" in words.lower()


def _log_line(event: str) -> str:
    """The text of one line of the log's stream; "": it is not one."""
    name, _, data = event.partition(":")
    try:
        return str(json.loads(data)["line"]) if name == "data" else ""
    except (ValueError, LookupError, TypeError):
        return ""


def view(pod: dict[str, Any]) -> MachineView:
    """A pod in our words. It says RUNNING before its ports exist: it is READY only with an address for SSH."""
    word = str(pod.get("status", "unknown"))
    status = STATUS.get(word, MachineStatus.FAILED)
    direct: dict[str, Any] = (pod.get("ssh") or {}).get("direct") or {}
    if status is MachineStatus.READY and not direct:
        status = MachineStatus.BOOTING
    address = None
    if status is MachineStatus.READY:
        address = Address(direct["host"], int(direct["port"]), direct.get("username") or "root")
    cost, disk = pod.get("cost"), int(pod.get("disk") or 0)
    return MachineView(
        id=pod["id"],
        name=pod["name"],
        status=status,
        address=address,
        private_ip=(pod.get("globalNetworking") or {}).get("ip"),
        price_hour=None if cost is None else Decimal(cost) + disk * runpod_catalog.DISK_GB_HOUR,
        place=pod.get("dataCenterId") or "",
        detail=word,
        started=_moment(pod.get("startedAt")),
    )


def _moment(stamp: object) -> datetime | None:
    """A time as the API writes it; None: there is none, or none that can be read."""
    try:
        return datetime.fromisoformat(str(stamp)) if stamp else None
    except ValueError:
        return None


def _rows(document: Any, key: str) -> list[dict[str, Any]]:
    """The list under `key`; an answer of another shape is no answer (it may pass)."""
    rows = document.get(key) if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ProviderUnavailable(f"RunPod: an answer without its list {key!r}")
    return rows


def _id(created: Any, what: str) -> str:
    found = created.get("id") if isinstance(created, dict) else None
    if not isinstance(found, str) or not found:
        raise Ambiguous(f"RunPod: the {what} was accepted, but the answer has no id")
    return found


def _words(body: Any) -> str:
    """RunPod's problem+json in one line."""
    if not isinstance(body, dict):
        return str(body)
    parts = [str(body.get("detail") or body.get("title") or body), *map(str, body.get("errors") or [])]
    return "; ".join(parts)
