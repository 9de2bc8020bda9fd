"""The emulated REST v2 gives pods the life that was documented or recorded."""

from __future__ import annotations

import json
from decimal import ROUND_DOWN, Decimal
from typing import Any

import pytest

from tests.rehearsal.clouds.clouds_support import KEY, Cloud


def create(cloud: Cloud, body: dict[str, Any]):
    reply = cloud.runpod.post("/pods", json=body)
    assert reply.status_code == 201, reply.text
    return reply.json()


def test_a_pod_is_not_there_then_provisioning_then_running_without_address_then_reachable(
    cloud: Cloud, pod_body: dict[str, Any]
):
    """A fresh pod answers 404, boots, is RUNNING before it has an address, and only then can be reached by SSH."""
    pod = create(cloud, pod_body)
    assert (pod["status"], pod["runtime"], pod["ssh"]["direct"]) == ("PROVISIONING", None, None)
    assert pod["ssh"]["proxy"]["host"] == "ssh.runpod.io"
    path = f"/pods/{pod['id']}"
    assert cloud.runpod.get(path).status_code == 404
    assert cloud.runpod.get("/pods").json() == {"pods": []}
    assert cloud.runpod.delete(path).status_code == 404
    cloud.advance(5)
    assert cloud.runpod.get(path).json()["status"] == "PROVISIONING"
    assert [p["id"] for p in cloud.runpod.get("/pods").json()["pods"]] == [pod["id"]]
    cloud.advance(6)
    assert cloud.runpod.get(path).json()["status"] == "STARTING"
    cloud.advance(12)
    running = cloud.runpod.get(path).json()
    assert (running["status"], running["runtime"], running["ssh"]["direct"]) == ("RUNNING", None, None)
    cloud.advance(8)
    ready = cloud.runpod.get(path).json()
    assert ready["ssh"]["direct"]["username"] == "root"
    assert ready["ssh"]["direct"]["host"] == "127.0.0.1"
    assert ready["runtime"]["ports"][0]["public"] == ready["ssh"]["direct"]["port"]
    assert cloud.hosts.specs[pod["id"]].public_key == KEY


def test_the_machine_learns_what_the_vendor_injects(cloud: Cloud, pod_body: dict[str, Any]):
    """A pod's environment has its own variables, RUNPOD_* and a key of its own; the API shows only the first."""
    pod = create(cloud, {**pod_body, "env": {**pod_body["env"], "MINE": "1"}})
    cloud.advance(31)
    env = cloud.hosts.specs[pod["id"]].env
    assert env["MINE"] == "1"
    assert env["RUNPOD_POD_ID"] == pod["id"]
    assert env["RUNPOD_API_KEY"].startswith("rpa_")
    assert env["RUNPOD_API_KEY"] != cloud.state.api_keys()["runpod"]
    assert cloud.runpod.get(f"/pods/{pod['id']}").json()["env"] == {"PUBLIC_KEY": KEY, "MINE": "1"}


def test_a_deleted_pod_is_gone_and_its_host_is_dead(cloud: Cloud, pod_body: dict[str, Any]):
    """DELETE answers 204 after the host has ended; then GET is 404 and the list is empty."""
    pod = create(cloud, pod_body)
    cloud.advance(31)
    assert cloud.runpod.delete(f"/pods/{pod['id']}").status_code == 204
    assert cloud.hosts.ended[-1] == (pod["id"], False)
    assert cloud.runpod.get(f"/pods/{pod['id']}").status_code == 404
    assert cloud.runpod.get("/pods").json() == {"pods": []}
    assert cloud.runpod.delete(f"/pods/{pod['id']}").status_code == 404
    assert cloud.state.alive()["machines"] == []


def test_deleting_a_booting_pod_leaves_no_host(cloud: Cloud, pod_body: dict[str, Any]):
    """A pod that is deleted while it boots never comes up."""
    pod = create(cloud, pod_body)
    cloud.advance(5)
    assert cloud.runpod.delete(f"/pods/{pod['id']}").status_code == 204
    cloud.advance(60)
    assert cloud.hosts.booted == []


def test_actions_follow_the_table_and_wrong_ones_are_409(cloud: Cloud, pod_body: dict[str, Any]):
    """Stop, start and restart work in their statuses only, and a restart moves the SSH port."""
    pod = create(cloud, pod_body)
    cloud.advance(31)
    path = f"/pods/{pod['id']}"
    port = cloud.runpod.get(path).json()["ssh"]["direct"]["port"]

    def act(action: str):
        return cloud.runpod.post(f"{path}/action", json={"action": action})

    assert act("start").status_code == 409
    assert act("restart").json()["status"] == "STARTING"
    cloud.advance(20)
    assert cloud.runpod.get(path).json()["ssh"]["direct"]["port"] != port
    stopped = act("stop").json()
    assert (stopped["status"], stopped["actions"]) == ("EXITED", ["start", "terminate"])
    assert stopped["cost"] == pytest.approx(0.74)
    assert act("stop").status_code == 409
    assert act("start").json()["status"] == "PROVISIONING"
    assert act("bogus").status_code == 422
    assert act("terminate").status_code == 204
    assert act("stop").status_code == 404


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpu": None}, "exactly one"),
        ({"cpu": {"id": "cpu5c", "vcpuCount": 4}}, "exactly one"),
        ({"gpu": {"id": "NVIDIA GeForce RTX 4090"}}, "no longer any instances available"),
        ({"gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 16}}, "no longer any instances available"),
        ({"gpu": {"id": "NVIDIA B200", "count": 1}, "dataCenterIds": ["EU-RO-1"]}, "no longer any instances"),
        ({"gpu": {"id": "Voodoo", "count": 1}}, "not found"),
        ({"dataCenterIds": ["XX-1"]}, "not found"),
        ({"dataCenterIds": ["CA-MTL-1"], "globalNetworking": True}, "global networking"),
        ({"env": {f"V{n}": "1" for n in range(51)}}, "environment variables"),
    ],
)
def test_rules_that_the_schema_cannot_state_are_400(
    cloud: Cloud, pod_body: dict[str, Any], change: dict[str, Any], words: str
):
    """A body that matches the schema but breaks a rule, or finds no machine, is 400 and creates nothing."""
    body = {key: value for key, value in {**pod_body, **change}.items() if value is not None}
    reply = cloud.runpod.post("/pods", json=body)
    assert reply.status_code == 400
    assert reply.headers["Content-Type"].startswith("application/problem+json")
    assert words in reply.json()["detail"]
    assert cloud.state.log() == []


def test_unknown_keys_are_422_and_named(cloud: Cloud, pod_body: dict[str, Any]):
    """A key of the old API fails the schema, and the reply says which."""
    reply = cloud.runpod.post("/pods", json={**pod_body, "interruptible": True})
    assert reply.status_code == 422
    assert reply.json()["errors"] == ["$: additional properties 'interruptible' not allowed"]


def test_a_pod_without_22_tcp_has_no_ssh(cloud: Cloud, pod_body: dict[str, Any]):
    """A closed port stays closed: no direct SSH without 22/tcp in ports."""
    pod = create(cloud, {**pod_body, "ports": ["8888/http"]})
    cloud.advance(60)
    shown = cloud.runpod.get(f"/pods/{pod['id']}").json()
    assert (shown["status"], shown["ssh"]["direct"]) == ("RUNNING", None)
    assert cloud.hosts.booted == []


def test_global_networking_gives_addresses_of_their_own(cloud: Cloud, pod_body: dict[str, Any]):
    """Two pods with globalNetworking get different private addresses, some time after they are up."""
    made = [create(cloud, {**pod_body, "globalNetworking": True})["id"] for _ in "ab"]
    cloud.advance(31)
    up = cloud.runpod.get(f"/pods/{made[0]}").json()
    assert up["ssh"]["direct"]
    assert up["globalNetworking"] == {"enabled": True}
    cloud.advance(20)
    first, second = (cloud.runpod.get(f"/pods/{pod}").json() for pod in made)
    assert first["globalNetworking"]["enabled"]
    assert first["globalNetworking"]["ip"] != second["globalNetworking"]["ip"]
    assert first["globalNetworking"]["internalDns"] == f"{first['id']}.runpod.internal"


def test_cpu_pods_have_memory_and_no_gpu(cloud: Cloud, pod_body: dict[str, Any]):
    """A CPU pod is priced by the vCPU and gets its memory from the flavour."""
    body = {**pod_body, "cpu": {"id": "cpu3c", "vcpuCount": 4}, "disk": 40}
    del body["gpu"]
    pod = create(cloud, body)
    assert pod["cpu"] == {"id": "cpu3c", "vcpuCount": 4, "memory": 8}
    assert "gpu" not in pod
    assert pod["cost"] == pytest.approx(0.12)
    cloud.advance(31)
    assert cloud.hosts.specs[pod["id"]].gpus == 0
    assert cloud.runpod.post("/pods", json={**body, "cpu": {"id": "cpu3c", "vcpuCount": 6}}).status_code == 400


@pytest.mark.parametrize(
    "kind", [{"gpu": {"id": "NVIDIA L40S", "count": 1}}, {"cpu": {"id": "cpu3c", "vcpuCount": 8}}], ids=["GPU", "CPU"]
)
def test_a_pods_own_disk_is_billed_while_it_runs(cloud: Cloud, pod_body: dict[str, Any], kind: dict[str, Any]):
    """36 GB at $0.10 in 730 hours: $0.004931 an hour, to the second from RUNNING; free while it restarts or stands."""
    body = {key: value for key, value in pod_body.items() if key != "gpu"} | kind | {"disk": 36}
    pod_id = create(cloud, body)["id"]

    def disk() -> Decimal:
        (record,) = cloud.runpod.get("/billing/pods", params={"podId": pod_id, "bucketSize": "year"}).json()["records"]
        parts = record["gpuAmount"] + record["cpuAmount"] + record["diskAmount"]
        assert record["totalAmount"] == pytest.approx(parts, abs=1e-9)
        return Decimal(record["diskAmount"]).quantize(Decimal("0.000001"), ROUND_DOWN)

    cloud.advance(22)  # PROVISIONING, STARTING
    assert disk() == 0
    cloud.advance(1800.9)
    cloud.runpod.post(f"/pods/{pod_id}/action", json={"action": "restart"})
    cloud.advance(5)
    cloud.advance(1800)
    cloud.runpod.post(f"/pods/{pod_id}/action", json={"action": "stop"})
    assert disk() == Decimal("0.004931")
    cloud.advance(3600)
    assert disk() == Decimal("0.004931")


def test_a_failed_boot_is_error(cloud: Cloud, pod_body: dict[str, Any]):
    """A machine that does not come up shows ERROR, can be terminated, and is told in the log."""
    cloud.hosts.broken = True
    pod = create(cloud, pod_body)
    cloud.advance(40)
    shown = cloud.runpod.get(f"/pods/{pod['id']}").json()
    assert (shown["status"], shown["actions"]) == ("ERROR", ["start", "terminate"])
    assert cloud.state.log()[-1]["action"] == "boot-failed"


def test_patch_renames_and_refuses_late_mounts(cloud: Cloud, pod_body: dict[str, Any]):
    """PATCH changes a name in place, restarts for a new env, and never attaches a mount afterwards."""
    pod = create(cloud, pod_body)
    cloud.advance(31)
    path = f"/pods/{pod['id']}"
    assert cloud.runpod.patch(path, json={"name": "renamed"}).json()["name"] == "renamed"
    assert cloud.runpod.patch(path, json={"env": {"A": "1"}}).json()["status"] == "STARTING"
    late = {"mounts": {"network": [{"volumeId": "x", "path": "/workspace"}]}}
    assert cloud.runpod.patch(path, json=late).status_code == 400
    assert cloud.runpod.patch(path, json={"mounts": {"network": []}}).status_code == 400


def test_a_log_is_of_one_source_or_of_both(cloud: Cloud, pod_body: dict[str, Any]):
    """What the host says of the container's start, and what the container prints: together in their order."""
    pod = create(cloud, {**pod_body, "image": "runpod/pytorch:1"})
    cloud.advance(31)

    def sources(**query: str) -> list[str]:
        text = cloud.runpod.get(f"/pods/{pod['id']}/logs", params=query).text
        return [json.loads(line.removeprefix("data: "))["source"] for line in text.splitlines() if line[:4] == "data"]

    assert set(sources(source="system")) == {"system"}
    assert set(sources(source="container")) == {"container"}
    assert sources() == sources(source="system") + sources(source="container")
    assert sources(tail="1") == ["container"]
