"""How Lambda's API shows things."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from orchestrator.rehearsal.clouds.catalogue import INSTANCE_TYPES, REGIONS, InstanceType
from orchestrator.rehearsal.clouds.clock import stamp
from orchestrator.rehearsal.clouds.instances import mount_point_of
from orchestrator.rehearsal.clouds.records import Instance, Records, Volume

# Image families and what they hold; the ids are made up, each region has its own.
FAMILIES = {"lambda-stack-24-04": "Lambda Stack 24.04", "lambda-stack-22-04": "Lambda Stack 22.04"}
_IMAGES_MADE = "2026-09-01T00:00:00Z"
_NAMESPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")
_OWNER = {"id": uuid.uuid5(_NAMESPACE, "owner").hex, "email": "me@example.com", "status": "active"}


def region_json(name: str) -> dict[str, str]:
    """A Region."""
    return {"name": name, "description": REGIONS[name]}


def kind_json(kind: InstanceType) -> dict[str, Any]:
    """An InstanceType."""
    return {
        "name": kind.name,
        "description": kind.description,
        "gpu_description": kind.gpu if kind.gpus else "N/A",
        "price_cents_per_hour": kind.cents,
        "specs": {
            "vcpus": kind.vcpus,
            "memory_gib": kind.memory_gib,
            "storage_gib": kind.storage_gib,
            "gpus": kind.gpus,
        },
    }


def type_json(kind: InstanceType) -> dict[str, Any]:
    """An InstanceTypesItem: the regions are those that are said to have capacity, which is no promise."""
    return {
        "instance_type": kind_json(kind),
        "regions_with_capacity_available": [region_json(name) for name in kind.regions],
    }


def instance_json(instance: Instance, records: Records) -> dict[str, Any]:
    """An Instance. Address, host name and Jupyter appear when it is active, a mount list when something is mounted."""
    volume = records.volumes.get(instance.volume_id or "")
    row: dict[str, Any] = {
        "id": instance.id,
        "status": instance.status,
        "ssh_key_names": [instance.ssh_key],
        "file_system_names": [volume.name] if volume else [],
        "region": region_json(instance.region),
        "instance_type": kind_json(INSTANCE_TYPES[instance.kind]),
        "is_reserved": False,
        "actions": _actions(instance),
        "tags": [{"key": key, "value": value} for key, value in instance.tags.items()],
    }
    if instance.name:
        row["name"] = instance.name
    if volume:
        row["file_system_mounts"] = [{"mount_point": instance.mount_point, "file_system_id": volume.id}]
    if instance.ip:
        row |= {
            "ip": instance.ip,
            # On loopback an instance's private address is its only one, so that others can bind and reach it.
            **({"private_ip": instance.ip} if instance.shows_private_ip else {}),
            "hostname": instance.hostname or instance.ip.replace(".", "-"),
            "jupyter_token": instance.jupyter_token,
            "jupyter_url": f"https://jupyter-{instance.id}.lambdaspaces.com/?token={instance.jupyter_token}",
        }
    return row


def _actions(instance: Instance) -> dict[str, Any]:
    reasons = {"booting": "vm-has-not-launched", "terminating": "vm-is-terminating"}
    code = reasons.get(instance.status)
    blocked = {"available": False, "reason_code": code} if code else {"available": True}
    row: dict[str, Any] = dict.fromkeys(("migrate", "rebuild", "restart", "cold_reboot"), blocked)
    row["terminate"] = blocked if instance.status == "terminating" else {"available": True}
    return row


def file_system_json(volume: Volume, used: int, *, in_use: bool) -> dict[str, Any]:
    """A Filesystem."""
    return {
        "id": volume.id,
        "name": volume.name,
        "mount_point": mount_point_of(volume),
        "created": stamp(volume.created),
        "created_by": _OWNER,
        "is_in_use": in_use,
        "region": region_json(volume.place),
        "bytes_used": used,
    }


def image_id(family: str, region: str) -> str:
    """The id of a family's newest image in a region."""
    return str(uuid.uuid5(_NAMESPACE, f"{family} {region}"))


def image_json(family: str, region: str) -> dict[str, Any]:
    """An Image."""
    return {
        "id": image_id(family, region),
        "created_time": _IMAGES_MADE,
        "updated_time": _IMAGES_MADE,
        "name": FAMILIES[family],
        "description": f"{FAMILIES[family]} for x86-64",
        "family": family,
        "version": "1.0.0",
        "architecture": "x86_64",
        "region": region_json(region),
    }


FIREWALL = ("tcp 22 from 0.0.0.0/0", "icmp from 0.0.0.0/0")  # what the documents say that an account begins with


def firewall_json(rules: Sequence[str]) -> dict[str, Any]:
    """The rules that hold everywhere, out of `PROTOCOL [PORT[-PORT]] from NETWORK`."""
    return {"id": "global", "name": "Global Rules", "rules": [_rule_json(rule) for rule in rules]}


def _rule_json(rule: str) -> dict[str, Any]:
    what, _, source = rule.partition(" from ")
    protocol, _, ports = what.partition(" ")
    first, _, last = ports.partition("-")
    shown = {"protocol": protocol, "source_network": source, "description": ""}
    return shown | ({"port_range": [int(first), int(last or first)]} if ports else {})
