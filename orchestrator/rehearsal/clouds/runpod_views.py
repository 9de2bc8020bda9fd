"""How REST v2 shows a pod and a volume."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from orchestrator.rehearsal.clouds.catalogue import CPUS
from orchestrator.rehearsal.clouds.clock import stamp
from orchestrator.rehearsal.clouds.placement import memory_gb
from orchestrator.rehearsal.clouds.pods import ACTIONS
from orchestrator.rehearsal.clouds.records import Pod, Volume


def pod_json(pod: Pod, now: datetime) -> dict[str, Any]:
    """A Pod of the specification."""
    return {
        "id": pod.id,
        "name": pod.name,
        "status": pod.status,
        "actions": ACTIONS[pod.status],
        "image": pod.image,
        "args": pod.args,
        "disk": pod.disk,
        "mounts": _mounts(pod),
        "ports": pod.ports,
        "env": pod.env,
        "registry": pod.registry,
        **_compute(pod),
        "cloud": pod.cloud,
        "dataCenterId": pod.place or None,
        "cudaVersion": pod.cuda if pod.gpu_id else None,
        "ssh": _ssh(pod),
        "template": None,
        # The specification says 0.0 when stopped; the live service went on showing the rate.
        "cost": float(pod.price_hour),
        "locked": pod.locked,
        "globalNetworking": _network(pod),
        "runtime": _runtime(pod, now),
        "createdAt": stamp(pod.created),
        "startedAt": stamp(pod.started) if pod.started else None,
    }


def log_events(pod: Pod, tail: int, source: str) -> str:
    """The end of a pod's log, of one source or ("") both, as server-sent events. The vendor's stream goes on."""
    both = {"system": pod.said, "container": pod.printed}
    found = [(at, name, line) for name, said in both.items() if source in {"", name} for at, line in said]
    lines = sorted(found, key=lambda one: one[0])
    facts = [{"ts": stamp(at), "source": name, "line": line} for at, name, line in (lines[-tail:] if tail else [])]
    return "".join(f"id: {fact['ts']}/{number:012}\ndata: {json.dumps(fact)}\n\n" for number, fact in enumerate(facts))


def _compute(pod: Pod) -> dict[str, Any]:
    if pod.gpu_id:
        return {"gpu": {"id": pod.gpu_id, "count": pod.gpu_count}}
    flavour = CPUS[pod.cpu_id or ""]
    return {"cpu": {"id": flavour.id, "vcpuCount": pod.vcpu, "memory": memory_gb(flavour, pod.vcpu)}}


def _mounts(pod: Pod) -> dict[str, Any]:
    if pod.volume_id:
        return {"network": [{"volumeId": pod.volume_id, "path": pod.mount_path}]}
    if pod.persistent:
        return {"persistent": {"size": pod.persistent[0], "path": pod.persistent[1]}}
    return {}


def _ssh(pod: Pod) -> dict[str, Any]:
    # The proxy is there from the start and says nothing about readiness: seen on the live service.
    proxy = {
        "host": "ssh.runpod.io",
        "port": 22,
        "username": f"{pod.id}-64411eb2",
        "command": f"ssh {pod.id}-64411eb2@ssh.runpod.io",
    }
    direct = None
    if pod.address:
        host, port = pod.address
        direct = {"host": host, "port": port, "username": "root", "command": f"ssh root@{host} -p {port}"}
    return {"proxy": proxy, "direct": direct}


def _network(pod: Pod) -> dict[str, Any]:
    if pod.private_ip is None:
        return {"enabled": False}
    if not pod.shows_private_ip:
        return {"enabled": True}
    return {"enabled": True, "ip": pod.private_ip, "internalDns": f"{pod.id}.runpod.internal"}


def port_map(pod: Pod) -> list[dict[str, Any]]:
    """What is published. HTTP ports go through the vendor's proxy and have no address of their own."""
    if pod.address is None:
        return []
    host, port = pod.address
    result: list[dict[str, Any]] = []
    for entry in pod.ports:
        number, _, kind = entry.partition("/")
        is_ssh = entry == "22/tcp"
        result.append(
            {
                "private": int(number),
                "public": port if is_ssh else None,
                "type": kind or "tcp",
                "ip": host if is_ssh else None,
            }
        )
    return result


def _runtime(pod: Pod, now: datetime) -> dict[str, Any] | None:
    if pod.status != "RUNNING" or pod.address is None or pod.started is None:
        return None
    return {"uptime": max(0, int((now - pod.started).total_seconds())), "ports": port_map(pod)}


def volume_json(volume: Volume) -> dict[str, Any]:
    """A NetworkVolume of the specification."""
    return {
        "id": volume.id,
        "name": volume.name,
        "size": volume.size_gb,
        "dataCenter": volume.place,
        "type": volume.type,
    }
