"""Lambda Cloud, API version 1.10. No spot, no stop, no deadline of the vendor's, no billing report.

One request a second and one launch per twelve are allowed: every call goes through the pacer, which also waits out
429s. The key is all-powerful, so it never reaches a machine, and a machine cannot end its own bill.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC
from decimal import Decimal
from typing import Any

from orchestrator.cost import HOURS_A_MONTH
from orchestrator.providers import ProviderAccess, gpu_names
from orchestrator.providers.http import Api, sensible
from orchestrator.providers.pacer import Pacer
from orchestrator.words.errors import Ambiguous, ProviderUnavailable, Refused, RequestRefused
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

BASE_URL = "https://cloud.lambda.ai/api/v1"
INTERVALS = {"any": 1.0, "launch": 12.0}  # seconds between two requests
USER = "ubuntu"
OTHER_ARCHITECTURE = ("gh200",)  # aarch64: other wheels and images

GB_MONTH = Decimal("0.20")

NAME_LIMIT = 64
VOLUME_NAME = re.compile(r"^[a-zA-Z]+[0-9a-zA-Z-]*$")
VOLUME_NAME_LIMIT = 60

STATUS: dict[str, MachineStatus] = {
    "booting": MachineStatus.BOOTING,
    "active": MachineStatus.READY,
    "preempted": MachineStatus.STOPPED,
    "terminating": MachineStatus.ENDING,
}  # unhealthy, and words that are new to us: FAILED
GONE = "terminated"


class Lambda:
    """`Provider` on Lambda's on-demand cloud."""

    name = "lambda"
    capabilities = frozenset({Capability.VOLUMES, Capability.PRIVATE_NETWORK, Capability.HOST_KEY, Capability.REBOOT})
    rented = True
    keeps_data = False
    list_lag_s = 90.0
    mount_path = "/lambda/nfs/gpuplan"

    def __init__(self, access: ProviderAccess) -> None:
        self._access = access
        self.shows_gpu, self.disk_share = access.shows_gpu, access.disk_share
        self._api = Api("Lambda", access.base_url or BASE_URL, access, _words)
        self._pacer = Pacer(INTERVALS, access.pace_file, access.time_scale, now=access.now, sleep=access.sleep)
        self._keys: dict[str, str] = {}  # public key -> the name that Lambda has it under

    def last_words(self, machine_id: str) -> list[str]:  # noqa: ARG002  it is the port's
        """See Provider. Lambda keeps none."""
        return []

    @sensible
    def offers(self, *, gpus: int, spot: bool, min_cuda: str = "") -> list[Offer]:  # noqa: ARG002  it is the port's
        """See Provider. Only regions with capacity are known: a type that is sold out everywhere is left out."""
        if spot:
            return []
        types = self._read("instance-types")
        if not isinstance(types, dict):
            raise ProviderUnavailable("Lambda: the instance types are not the map that they should be")
        found = [o for item in types.values() for o in _offers(item, gpus)]
        return sorted(found, key=lambda o: (o.price_hour, o.place))

    def create(self, spec: MachineSpec) -> str:
        """See Provider. ProviderUnavailable: nothing was launched either (rate limit, or cannot be reached)."""
        if len(spec.name) > NAME_LIMIT:
            raise RequestRefused(f"Lambda: the name {spec.name!r} is longer than {NAME_LIMIT} characters")
        body = launch_body(spec, self._key_name(spec.public_key), self._access.owner, self.mount_path)
        answer = self._pacer.call(lambda: self._api.create("instance-operations/launch", body), "launch")
        ids = _data(answer).get("instance_ids") if isinstance(_data(answer), dict) else None
        if not isinstance(ids, list) or len(ids) != 1:
            raise Ambiguous("Lambda: the launch was accepted, but the answer has not one instance id")
        return str(ids[0])

    @sensible
    def machine(self, machine_id: str) -> MachineView | None:
        """See Provider."""
        instance = self._read(f"instances/{machine_id}")
        if instance is None or instance.get("status") == GONE:
            return None
        return view(instance, self._access.ssh_port)

    @sensible
    def machines(self) -> list[MachineView]:
        """See Provider."""
        ours = (i for i in self._read_list("instances") if str(i.get("name", "")).startswith(MACHINE_PREFIX))
        return [view(i, self._access.ssh_port) for i in ours if i.get("status") != GONE]

    def destroy(self, machine_id: str) -> None:
        """See Provider. One id a call: with several, one unknown id refuses them all."""
        body = {"instance_ids": [machine_id]}
        self._pacer.call(lambda: self._api.destroy("POST", "instance-operations/terminate", body))

    def reboot(self, machine_id: str) -> None:
        """See Provider. Disk, address and host key stay."""
        body = {"instance_ids": [machine_id]}
        answer = self._pacer.call(lambda: self._api.create("instance-operations/restart", body))
        if not (_data(answer) or {}).get("restarted_instances"):
            raise Refused(f"Lambda: {machine_id} is not among the instances that were restarted")

    def create_volume(self, name: str, size_gb: int, place: str) -> str:
        """See Provider. File systems grow by themselves: the size is advisory."""
        del size_gb
        if len(name) > VOLUME_NAME_LIMIT or not VOLUME_NAME.match(name):
            raise Refused(
                f"Lambda: {name!r} is no file system name: a letter, then letters, digits, dashes, at most 60"
            )
        answer = self._pacer.call(lambda: self._api.create("filesystems", {"name": name, "region": place}))
        data = _data(answer)
        if not isinstance(data, dict) or not data.get("id"):
            raise Ambiguous("Lambda: the file system was accepted, but the answer has no id")
        return str(data["id"])

    @sensible
    def volumes(self) -> list[VolumeView]:
        """See Provider. Size and price are those of the bytes in use, which Lambda counts every few hours."""
        found = []
        for fs in self._read_list("file-systems"):
            if str(fs["name"]).startswith(MACHINE_PREFIX):
                used_gb = -(-int(fs.get("bytes_used") or 0) // 10**9)
                price = self.volume_price_hour(used_gb)
                found.append(VolumeView(str(fs["id"]), fs["name"], used_gb, fs["region"]["name"], price))
        return found

    def destroy_volume(self, volume_id: str) -> None:
        """See Provider."""
        self._pacer.call(lambda: self._api.destroy("DELETE", f"filesystems/{volume_id}"))

    def volume_price_hour(self, size_gb: int) -> Decimal:
        """See Provider. An upper bound until the volume is full: Lambda charges for bytes in use."""
        return size_gb * GB_MONTH / HOURS_A_MONTH

    @sensible
    def billed(self, machine_ids: Iterable[str]) -> dict[str, Decimal]:
        """See Provider: Lambda has no billing report."""
        del machine_ids
        return {}

    def credit(self) -> Decimal | None:
        """See Provider. Nothing is paid ahead."""
        return None

    def shows_host_key(self, machine_id: str, fingerprint: str) -> bool | None:
        """See Provider. Its API shows no logs; a machine here has the key that it was launched with."""
        del machine_id, fingerprint
        return None

    @sensible
    def facts(self) -> Facts:
        """See Provider: the rules that hold in every region."""
        ruleset = self._read("firewall-rulesets/global")
        return Facts(firewall=None if ruleset is None else tuple(_rule(rule) for rule in ruleset["rules"]))

    def end_bill_script(self) -> str:
        """See Provider: only the account's key ends an instance (a shutdown does not end the bill)."""
        return ""

    def _read(self, path: str) -> Any:
        document = self._pacer.call(lambda: self._api.read(path))
        return None if document is None else _data(document)

    def _read_list(self, path: str) -> list[dict[str, Any]]:
        rows = self._read(path)
        if not isinstance(rows, list):
            raise ProviderUnavailable(f"Lambda: the answer to GET {path} is not a list")
        return rows

    def _key_name(self, public_key: str) -> str:
        """The name under which Lambda has this public key, stored there first if need be."""
        wanted = _key_material(public_key)
        if wanted not in self._keys:
            stored = self._read_list("ssh-keys")
            self._keys |= {_key_material(k["public_key"]): k["name"] for k in stored}
            if wanted not in self._keys:
                self._keys[wanted] = self._store_key(public_key, {k["name"] for k in stored})
        return self._keys[wanted]

    def _store_key(self, public_key: str, taken: set[str]) -> str:
        name = f"{MACHINE_PREFIX}{self._access.owner or 'key'}"
        if name in taken:  # an older key of the same owner, perhaps in use by a machine that runs
            name += "-" + hashlib.sha256(public_key.encode()).hexdigest()[:8]
        body = {"name": name, "public_key": public_key.strip()}
        try:
            self._pacer.call(lambda: self._api.create("ssh-keys", body))
        except Ambiguous as unsure:  # storing a key makes no machine: it may simply be looked up again
            raise ProviderUnavailable(f"Lambda: storing the SSH key: {unsure.message}") from unsure
        return name


def launch_body(spec: MachineSpec, key_name: str, owner: str, mount_path: str) -> dict[str, Any]:
    """The body of the launch. The name is the handle by which a lost launch is found; tags repeat it for people."""
    deadline = spec.deadline.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    tags = {"gpuplan-owner": owner or "unknown", "gpuplan-deadline": deadline}
    body: dict[str, Any] = {
        "region_name": spec.offer.place,
        "instance_type_name": spec.offer.type_id,
        "ssh_key_names": [key_name],
        "name": spec.name,
        "tags": [{"key": k, "value": v} for k, v in tags.items()],
    }
    if spec.volume_name:
        body["file_system_names"] = [spec.volume_name]
    if spec.volume_id:  # one path for every volume, instead of the default that ends in the volume's name
        body["file_system_mounts"] = [{"file_system_id": spec.volume_id, "mount_point": mount_path}]
    if spec.host_key:
        body["user_data"] = _cloud_config(spec.host_key.reveal())
    if spec.image:
        kind = "id" if re.fullmatch(r"[0-9a-f-]{32,36}", spec.image) else "family"
        body["image"] = {kind: spec.image}
    return body


def _cloud_config(host_key: str) -> str:
    """What cloud-init is to do at the first boot: use this host key, and make no other."""
    lines = "".join(f"    {line}\n" for line in host_key.splitlines())
    return f"#cloud-config\nssh_deletekeys: true\nssh_genkeytypes: []\nssh_keys:\n  ed25519_private: |\n{lines}"


def view(instance: dict[str, Any], ssh_port: int) -> MachineView:
    """An instance in our words. The address is absent while it boots; its Jupyter token is left where it is."""
    word = str(instance.get("status", "unknown"))
    status = STATUS.get(word, MachineStatus.FAILED)
    host = instance.get("ip")
    if status is MachineStatus.READY and not host:
        status = MachineStatus.BOOTING
    cents = (instance.get("instance_type") or {}).get("price_cents_per_hour")
    return MachineView(
        id=str(instance["id"]),
        name=instance.get("name") or "",
        status=status,
        address=Address(str(host), ssh_port, USER) if status is MachineStatus.READY else None,
        private_ip=instance.get("private_ip"),
        price_hour=None if cents is None else Decimal(cents) / 100,
        place=(instance.get("region") or {}).get("name", ""),
        detail=word,
    )


def _offers(item: dict[str, Any], gpus: int) -> list[Offer]:
    kind = item["instance_type"]
    if kind["specs"]["gpus"] != gpus or any(word in kind["name"] for word in OTHER_ARCHITECTURE):
        return []
    gpu, memory = gpu_names.from_lambda(kind["gpu_description"]) if gpus else ("", 0)
    price = Decimal(kind["price_cents_per_hour"]) / 100
    regions = [r["name"] for r in item["regions_with_capacity_available"]]
    return [Offer("lambda", kind["name"], gpu, gpus, memory, price, region) for region in regions]


def _rule(rule: dict[str, Any]) -> str:
    """`tcp 22 from 0.0.0.0/0`."""
    first, last = rule.get("port_range") or (None, None)
    ports = "" if first is None else f" {first}" if first == last else f" {first}-{last}"
    return f"{rule['protocol']}{ports} from {rule['source_network']}"


def _data(document: Any) -> Any:
    return document.get("data") if isinstance(document, dict) else None


def _key_material(public_key: str) -> str:
    """Type and key without the comment, which Lambda may have changed."""
    return " ".join(public_key.split()[:2])


def _words(body: Any) -> str:
    """Lambda's error in one line: the code is what counts."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return str(body)
    parts = [error.get("code"), error.get("message"), error.get("suggestion")]
    return ": ".join(str(p) for p in parts[:2] if p) + (f" ({parts[2]})" if parts[2] else "")
