"""The emulated REST v2 at its gate: who passes, how often, what an error looks like; volumes; the catalogue."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import httpx
import pytest

from orchestrator.rehearsal.clouds.contracts import Contract
from orchestrator.rehearsal.clouds.gate import Quota
from tests.rehearsal.clouds.clouds_support import KEY, Cloud


def test_the_front_door_refuses_urllib_with_html(cloud: Cloud):
    """Python's urllib, and a client without a User-Agent, meet a 403 that is no JSON."""
    request = urllib.request.Request(f"{cloud.url}/v2/pods", headers={"Authorization": "Bearer x"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert (refused.value.code, refused.value.headers.get_content_type()) == (403, "text/html")
    assert refused.value.read() == b"error code: 1010"
    refused.value.close()
    assert httpx.get(f"{cloud.url}/v2/pods", headers={"User-Agent": ""}).text == "error code: 1010"


def test_keys_are_checked_with_problem_json(cloud: Cloud):
    """No key and a wrong key are 401 with the specification's words."""
    missing = httpx.get(f"{cloud.url}/v2/pods")
    assert missing.json() == {"title": "Unauthorized", "status": 401, "detail": "missing bearer token"}
    assert missing.headers["Content-Type"].startswith("application/problem+json")
    assert httpx.get(f"{cloud.url}/v2/pods", headers={"Authorization": "Bearer no"}).status_code == 401


def test_every_authenticated_reply_tells_the_quota(cloud: Cloud):
    """RateLimit and RateLimit-Policy name three windows, and the count goes down."""

    def left():
        headers = cloud.runpod.get("/pods").headers
        assert headers["RateLimit-Policy"].startswith('"minute";q=60;w=60, "hour";q=')
        return int(headers["RateLimit"].split(";r=")[1].split(";")[0])

    first = left()
    assert left() == first - 1


def test_a_used_up_window_is_429_until_it_begins_anew(cloud: Cloud):
    """Beyond the quota: 429, Retry-After in whole seconds, the window's name; later requests pass again."""
    quota = Quota(cloud.clock, {"minute": (2, 60)})
    assert [quota.count() for _ in range(3)] == [None, None, "minute"]
    cloud.advance(20)
    assert quota.reset_in("minute") == 40
    cloud.advance(41)
    assert quota.count() is None


def test_unknown_paths_methods_and_operations_differ(cloud: Cloud):
    """404 for a stranger, 405 with Allow for a wrong method, 501 for what only the emulator lacks."""
    assert cloud.runpod.get("/nothing").status_code == 404
    wrong = cloud.runpod.put("/pods", json={})
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET, POST")
    assert cloud.runpod.get("/serverless").status_code == 501


def test_bodies_that_are_no_json_or_too_large_are_refused(cloud: Cloud):
    """Malformed JSON is 400, more than 102400 bytes 413, nothing at all 422."""
    assert cloud.runpod.post("/pods", content=b"{").status_code == 400
    assert cloud.runpod.post("/pods", content=b" " * 102_401).status_code == 413
    assert cloud.runpod.post("/pods").status_code == 422


def test_the_specifications_examples_are_accepted(cloud: Cloud):
    """Every example request of the emulated operations passes the emulator, and its replies have the examples' keys."""
    contract = Contract.runpod()
    volume_example = contract.example("/v2/network-volumes", "POST")
    volume = cloud.runpod.post("/network-volumes", json=volume_example)
    assert volume.status_code == 201
    assert {**volume.json(), "id": ""} == {**contract.example("/v2/network-volumes", "POST", 201), "id": ""}
    resized = cloud.runpod.patch(
        f"/network-volumes/{volume.json()['id']}", json=contract.example("/v2/network-volumes/{id}", "PATCH")
    )
    assert resized.json()["size"] == 200
    pod = cloud.runpod.post("/pods", json=contract.example("/v2/pods", "POST"))
    assert pod.status_code == 201
    assert set(pod.json()) == set(contract.example("/v2/pods", "POST", 201))
    cloud.advance(31)
    path = f"/pods/{pod.json()['id']}"
    renamed = cloud.runpod.patch(path, json=contract.example("/v2/pods/{id}", "PATCH"))
    assert renamed.json()["name"] == contract.example("/v2/pods/{id}", "PATCH", 200)["name"]
    assert set(cloud.runpod.get(path).json()) == set(contract.example("/v2/pods/{id}", "GET", 200))
    cloud.runpod.post(f"{path}/action", json={"action": "stop"})
    started = cloud.runpod.post(f"{path}/action", json=contract.example("/v2/pods/{id}/action", "POST"))
    assert started.status_code == 200


def test_volumes_live_in_one_place_and_outlive_pods(cloud: Cloud, pod_body: dict[str, Any]):
    """A volume pins its pods to its data centre, is attached at create only, and is deleted only when free."""
    body = {"name": "gpuplan-glm", "size": 1000, "dataCenter": "EU-RO-1"}
    volume = cloud.runpod.post("/network-volumes", json=body).json()
    mount = {"mounts": {"network": [{"volumeId": volume["id"], "path": "/workspace"}]}}
    elsewhere = cloud.runpod.post("/pods", json={**pod_body, **mount, "dataCenterIds": ["US-KS-2"]})
    assert (elsewhere.status_code, "EU-RO-1" in elsewhere.json()["detail"]) == (400, True)
    community = cloud.runpod.post("/pods", json={**pod_body, **mount, "cloud": "COMMUNITY"})
    assert (community.status_code, "SECURE" in community.json()["detail"]) == (400, True)
    pods = [cloud.runpod.post("/pods", json={**pod_body, **mount}).json() for _ in range(2)]
    assert {pod["dataCenterId"] for pod in pods} == {"EU-RO-1"}
    assert pods[0]["mounts"] == mount["mounts"]
    cloud.advance(31)
    assert cloud.hosts.specs[pods[0]["id"]].volume == "gpuplan-glm"
    path = f"/network-volumes/{volume['id']}"
    assert cloud.runpod.delete(path).status_code == 400
    assert cloud.runpod.get(path).json() == volume
    for pod in pods:
        cloud.runpod.delete(f"/pods/{pod['id']}")
    assert cloud.hosts.volumes == ["gpuplan-glm"]
    assert cloud.runpod.delete(path).status_code == 204
    assert cloud.runpod.get(path).status_code == 404
    assert cloud.runpod.get("/network-volumes").json() == {"networkVolumes": []}
    assert cloud.runpod.post("/pods", json={**pod_body, **mount}).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "v", "size": 9, "dataCenter": "EU-RO-1"}, 422),
        ({"name": "v", "size": 4097, "dataCenter": "EU-RO-1"}, 422),
        ({"name": "v", "size": 10, "dataCenterId": "EU-RO-1"}, 422),
        ({"name": "v", "size": 10, "dataCenter": "XX-1"}, 400),
        ({"name": "v", "size": 10, "dataCenter": "EU-SE-1"}, 400),
        ({"name": "v", "size": 10, "dataCenter": "AP-JP-1", "type": "HIGH_PERFORMANCE"}, 400),
    ],
)
def test_volumes_that_cannot_be(cloud: Cloud, body: dict[str, Any], status: int):
    """Sizes and keys by the schema, places and tiers by the catalogue."""
    assert cloud.runpod.post("/network-volumes", json=body).status_code == status
    assert cloud.hosts.volumes == []


def test_volumes_grow_and_never_shrink(cloud: Cloud):
    """PATCH grows a volume and refuses to shrink it; from then on the larger size is billed."""
    body = {"name": "v", "size": 730, "dataCenter": "EU-RO-1", "type": "STANDARD"}
    volume = cloud.runpod.post("/network-volumes", json=body).json()
    path = f"/network-volumes/{volume['id']}"
    cloud.advance(3600)
    assert cloud.runpod.patch(path, json={"size": 700}).status_code == 400
    assert cloud.runpod.patch(path, json={}).status_code == 422
    assert cloud.runpod.patch(path, json={"size": 1460}).json()["size"] == 1460
    cloud.advance(3600)
    # 730 GB are 0.07 an hour; 1460 are 1000 at 0.07 and 460 at 0.05, over 730 hours.
    assert cloud.state.invoice()["volumes"] == {"v": "0.197397"}


def test_two_volumes_may_have_one_name(cloud: Cloud):
    """Volume names are not unique on RunPod: each still has a folder of its own."""
    for _ in range(2):
        assert cloud.runpod.post("/network-volumes", json={"name": "v", "size": 10, "dataCenter": "EU-RO-1"}).is_success
    assert len(set(cloud.hosts.volumes)) == 2


def test_the_catalogue_has_prices_always_and_stock_on_request(cloud: Cloud):
    """Stock needs include and product together; count and country narrow it."""
    plain = {gpu["id"]: gpu for gpu in cloud.runpod.get("/catalog/gpus").json()["gpus"]}
    card = plain["NVIDIA GeForce RTX 4090"]
    assert card["price"] == {"secure": 0.74, "community": 0.34, "serverless": 1.11}
    assert "availability" not in card
    stock = {"include": "AVAILABILITY", "product": "POD"}
    assert cloud.runpod.get("/catalog/gpus", params={"include": "AVAILABILITY"}).status_code == 400
    assert cloud.runpod.get("/catalog/gpus", params={"product": "POD"}).status_code == 400
    assert cloud.runpod.get("/catalog/gpus", params={"include": "ALL"}).status_code == 422
    rows = {gpu["id"]: gpu for gpu in cloud.runpod.get("/catalog/gpus", params=stock).json()["gpus"]}
    places = {row["id"]: row["availability"] for row in rows["NVIDIA GeForce RTX 4090"]["dataCenters"]}
    assert places == {"CA-MTL-3": "HIGH", "EU-RO-1": "HIGH", "US-KS-2": "MEDIUM", "US-TX-3": "HIGH", "EU-SE-1": "LOW"}
    four = cloud.runpod.get("/catalog/gpus", params={**stock, "count": 8}).json()["gpus"]
    nvl = next(gpu for gpu in four if gpu["id"] == "NVIDIA H100 NVL")
    assert (nvl["availability"], "dataCenters" in nvl) == ("NONE", False)
    romanian = cloud.runpod.get("/catalog/gpus", params={**stock, "countryCodes": "RO"}).json()["gpus"]
    assert "NVIDIA B200" not in {gpu["id"] for gpu in romanian}
    one = cloud.runpod.get("/catalog/gpus/NVIDIA A100 80GB PCIe", params=stock).json()
    assert one["price"]["secure"] == 1.79
    assert cloud.runpod.get("/catalog/gpus/Voodoo").status_code == 404


def test_the_catalogue_of_places_and_cpus(cloud: Cloud):
    """Data centres filter by region, tier and network; one sells all that the plan needs."""
    both = {"include": "GPU_AVAILABILITY,CPU_AVAILABILITY"}
    rows = {row["id"]: row for row in cloud.runpod.get("/catalog/datacenters", params=both).json()["dataCenters"]}
    here = {gpu["id"] for gpu in rows["EU-RO-1"]["gpuAvailability"]}
    assert {"NVIDIA GeForce RTX 4090", "NVIDIA A100 80GB PCIe", "NVIDIA H100 80GB HBM3"} <= here
    assert rows["EU-RO-1"]["cpuAvailability"]
    assert all(row["name"] == row["id"] for row in rows.values())
    european = cloud.runpod.get("/catalog/datacenters", params={"regions": "EUROPE", "networkVolumeTypes": "STANDARD"})
    assert [row["id"] for row in european.json()["dataCenters"]] == ["EU-RO-1"]
    closed = cloud.runpod.get("/catalog/datacenters", params={"globalNetwork": "false"}).json()["dataCenters"]
    assert [row["id"] for row in closed] == ["CA-MTL-1", "CA-MTL-3"]
    cpus = cloud.runpod.get("/catalog/cpus", params={"include": "AVAILABILITY", "product": "POD"}).json()["cpus"]
    assert {"cpu3c": 0.03, "cpu5c": 0.04}.items() <= {cpu["id"]: cpu["price"]["securePerVcpu"] for cpu in cpus}.items()


def test_account_keys_reach_a_pod_only_with_start_ssh(cloud: Cloud, pod_body: dict[str, Any]):
    """PUT replaces the account's keys; startSsh gives them to a pod that brings none of its own."""
    assert cloud.runpod.put("/account/ssh-keys", json={"keys": ["nonsense"]}).status_code == 422
    assert cloud.runpod.put("/account/ssh-keys", json={"keys": [KEY]}).json() == {"keys": [KEY]}
    assert cloud.runpod.get("/account/ssh-keys").json() == {"keys": [KEY]}
    pod = cloud.runpod.post("/pods", json={**pod_body, "env": {}, "startSsh": True}).json()
    bare = cloud.runpod.post("/pods", json={**pod_body, "env": {}}).json()
    cloud.advance(31)
    assert cloud.hosts.specs[pod["id"]].public_key == KEY
    assert bare["id"] not in cloud.hosts.specs
