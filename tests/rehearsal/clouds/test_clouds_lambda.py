"""The emulated Lambda Cloud v1.10: envelopes, codes, pace and the life of an instance."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from typing import Any

import httpx
import pytest

from orchestrator.rehearsal.clouds.catalogue import INSTANCE_TYPES
from orchestrator.rehearsal.clouds.records import Instance
from tests.rehearsal.clouds.clouds_support import KEY, Cloud


class Client:
    """Keeps the vendor's pace by moving the clock."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.http = cloud, cloud.lambda_cloud

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        self.cloud.advance(12 if path.endswith("launch") else 1)
        return self.http.request(method, path, json=body)

    def data(self, method: str, path: str, body: dict[str, Any] | None = None):
        reply = self(method, path, body)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    def error(self, method: str, path: str, body: dict[str, Any] | None = None):
        reply = self(method, path, body)
        return reply.status_code, reply.json()["error"]["code"]


@pytest.fixture
def api(cloud: Cloud):
    return Client(cloud)


@pytest.fixture
def launch(api: Client):
    api.data("POST", "/ssh-keys", {"name": "k", "public_key": KEY})
    return {
        "region_name": "us-east-1",
        "instance_type_name": "gpu_1x_a100_sxm4",
        "ssh_key_names": ["k"],
        "name": "gpuplan-a",
        "tags": [{"key": "gpuplan-run", "value": "r1"}],
    }


@pytest.mark.skipif(sys.platform != "linux", reason="loopback has one address only")
def test_an_instance_boots_without_ip_becomes_active_and_vanishes_when_terminated(
    cloud: Cloud, api: Client, launch: dict[str, Any]
):
    """No ip while booting; then user ubuntu at an address of its own; terminating, then gone from list and GET."""
    (identity,) = api.data("POST", "/instance-operations/launch", launch)["instance_ids"]
    booting = api.data("GET", f"/instances/{identity}")
    assert (booting["status"], "ip" in booting) == ("booting", False)
    cloud.advance(165)
    active = api.data("GET", f"/instances/{identity}")
    assert (active["status"], active["ip"]) == ("active", "127.0.0.2")
    assert active["tags"] == launch["tags"]
    assert "private_ip" not in active
    spec = cloud.hosts.specs[identity]
    assert (spec.user, spec.gpus, spec.address) == ("ubuntu", 1, f"127.0.0.2:{cloud.state.ssh_port}")
    ended = api.data("POST", "/instance-operations/terminate", {"instance_ids": [identity]})
    assert ended["terminated_instances"][0]["status"] == "terminating"
    assert cloud.hosts.ended[-1][0] == identity
    assert api.data("GET", "/instances")[0]["status"] == "terminating"
    cloud.advance(5)
    assert api.data("GET", "/instances") == []
    assert api.error("GET", f"/instances/{identity}") == (404, "global/object-does-not-exist")


@pytest.mark.skipif(sys.platform != "linux", reason="loopback has one address only")
def test_two_instances_have_two_addresses_at_one_port(cloud: Cloud, api: Client, launch: dict[str, Any]):
    """Instances differ by address; the port is the same."""
    for _ in range(2):
        api.data("POST", "/instance-operations/launch", launch)
    cloud.advance(170)
    assert {i["ip"] for i in api.data("GET", "/instances")} == {"127.0.0.2", "127.0.0.3"}


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"ssh_key_names": []}, (400, "global/invalid-parameters")),
        ({"ssh_key_names": ["k", "k"]}, (400, "global/invalid-parameters")),
        ({"ssh_key_names": ["unknown"]}, (404, "global/object-does-not-exist")),
        ({"quantity": 1}, (400, "global/invalid-parameters")),
        ({"name": "x" * 65}, (400, "global/invalid-parameters")),
        ({"instance_type_name": "gpu_9x"}, (404, "global/object-does-not-exist")),
        ({"region_name": "mars-1"}, (404, "global/object-does-not-exist")),
        ({"region_name": "us-west-2"}, (400, "instance-operations/launch/insufficient-capacity")),
        ({"file_system_names": ["nope"]}, (404, "global/object-does-not-exist")),
        ({"image": {"family": "windows"}}, (404, "global/object-does-not-exist")),
        ({"tags": [{"key": "UPPER", "value": "x"}]}, (400, "global/invalid-parameters")),
    ],
)
def test_launches_that_are_refused_make_nothing(
    cloud: Cloud, api: Client, launch: dict[str, Any], change: dict[str, Any], answer: tuple[int, str]
):
    """Each refusal has the vendor's status and code, and no instance appears."""
    assert api.error("POST", "/instance-operations/launch", {**launch, **change}) == answer
    assert [entry["action"] for entry in cloud.state.log()] == ["add-key"]


def test_the_pace_is_one_request_a_second_and_one_launch_in_twelve(cloud: Cloud, api: Client, launch: dict[str, Any]):
    """A third request in the same second is 429, so is a second launch within 12 s, and nothing is launched by it."""
    http = api.http
    cloud.advance(2)
    assert [http.get("/regions").status_code for _ in range(3)] == [200, 200, 429]
    api.data("POST", "/instance-operations/launch", launch)
    cloud.advance(5)
    assert http.post("/instance-operations/launch", json=launch).status_code == 429
    cloud.advance(7)
    assert http.post("/instance-operations/launch", json=launch).status_code == 200
    assert [entry["action"] for entry in cloud.state.log()].count("create-machine") == 2


def test_file_systems_have_two_spellings_and_stay_in_their_region(cloud: Cloud, api: Client, launch: dict[str, Any]):
    """GET file-systems, POST and DELETE filesystems; another region is refused; in use cannot be deleted."""
    made = api.data("POST", "/filesystems", {"name": "glm", "region": "us-west-1"})
    assert made["mount_point"] == "/lambda/nfs/glm"
    assert api.error("POST", "/filesystems", {"name": "glm", "region": "us-west-1"}) == (400, "global/duplicate")
    wrong = {**launch, "file_system_names": ["glm"]}
    code = "instance-operations/launch/file-system-in-wrong-region"
    assert api.error("POST", "/instance-operations/launch", wrong) == (400, code)
    (identity,) = api.data("POST", "/instance-operations/launch", {**wrong, "region_name": "us-west-1"})["instance_ids"]
    assert api.data("GET", "/file-systems")[0]["is_in_use"]
    assert api.error("DELETE", f"/filesystems/{made['id']}") == (400, "filesystems/filesystem-in-use")
    cloud.advance(165)
    assert cloud.hosts.specs[identity].volume == "glm"
    shown = api.data("GET", f"/instances/{identity}")
    assert shown["file_system_mounts"] == [{"mount_point": "/lambda/nfs/glm", "file_system_id": made["id"]}]
    api.data("POST", "/instance-operations/terminate", {"instance_ids": [identity]})
    assert api.data("DELETE", f"/filesystems/{made['id']}") == {"deleted_ids": [made["id"]]}
    assert api.data("GET", "/file-systems") == []
    assert cloud.hosts.volumes == []


def test_one_unknown_id_spoils_a_termination(cloud: Cloud, api: Client, launch: dict[str, Any]):
    """A batch with a stranger terminates nobody."""
    (identity,) = api.data("POST", "/instance-operations/launch", launch)["instance_ids"]
    batch = {"instance_ids": [identity, "f" * 32]}
    assert api.error("POST", "/instance-operations/terminate", batch) == (404, "global/object-does-not-exist")
    assert api.data("GET", f"/instances/{identity}")["status"] == "booting"


def test_keys_authenticate_as_bearer_or_as_basic_user(cloud: Cloud):
    """Both forms of Authorization pass; a wrong key is 401 with the vendor's code."""
    url, key = f"{cloud.url}/api/v1/regions", cloud.state.api_keys()["lambda"]
    assert httpx.get(url, auth=(key, "")).status_code == 200
    refused = httpx.get(url, headers={"Authorization": "Bearer wrong"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "global/invalid-api-key")
    assert httpx.get(url).status_code == 401


def test_generated_keys_are_returned_once(api: Client):
    """POST ssh-keys without a key makes one, whose private half is in that reply only."""
    made = api.data("POST", "/ssh-keys", {"name": "mine"})
    assert "OPENSSH PRIVATE KEY" in made["private_key"]
    (listed,) = api.data("GET", "/ssh-keys")
    assert listed == {key: made[key] for key in ("id", "name", "public_key")}
    assert api.error("POST", "/ssh-keys", {"name": "mine"})[0] == 400
    assert api.data("DELETE", f"/ssh-keys/{made['id']}") == {}
    assert api.data("GET", "/ssh-keys") == []


def test_the_bill_begins_when_it_has_booted_and_counts_started_minutes(
    cloud: Cloud, api: Client, launch: dict[str, Any]
):
    """Booting is free; 61 seconds are two minutes; after terminate nothing runs up."""
    (identity,) = api.data("POST", "/instance-operations/launch", launch)["instance_ids"]
    cloud.advance(164)
    assert cloud.state.invoice()["machines"] == {"gpuplan-a": "0.000000"}
    cloud.advance(1 + 60)
    api.data("POST", "/instance-operations/terminate", {"instance_ids": [identity]})
    cloud.advance(3600)
    assert cloud.state.invoice()["machines"] == {"gpuplan-a": "0.066333"}
    assert cloud.state.invoice()["unit_seconds"] == {"runpod": 1, "lambda": 60}


def test_types_are_a_map_with_prices_and_listed_capacity(api: Client):
    """instance-types maps names to price, specification and the regions that claim to have it."""
    types = api.data("GET", "/instance-types")
    kind = types["gpu_1x_h100_sxm5"]
    assert kind["instance_type"]["price_cents_per_hour"] == 429
    assert {"name": "us-east-1", "description": "Virginia, USA"} in kind["regions_with_capacity_available"]
    assert len(api.data("GET", "/regions")) == 18
    assert {image["architecture"] for image in api.data("GET", "/images")} == {"x86_64"}


def test_an_instance_that_fails_to_boot_is_unhealthy_and_free(cloud: Cloud, api: Client, launch: dict[str, Any]):
    """A boot that fails shows unhealthy and never bills."""
    cloud.hosts.broken = True
    (identity,) = api.data("POST", "/instance-operations/launch", launch)["instance_ids"]
    cloud.advance(200)
    assert api.data("GET", f"/instances/{identity}")["status"] == "unhealthy"
    assert cloud.state.invoice()["total"] == "0.000000"


def test_unknown_and_unemulated_paths_say_so(api: Client):
    """A path that the vendor lacks is 404; one that only the emulator lacks is 501."""
    assert api.error("GET", "/nothing") == (404, "global/not-found")
    assert api.error("PUT", "/instances") == (404, "global/not-found")
    assert api.error("GET", "/audit-events") == (501, "rehearsal/not-emulated")


@pytest.mark.skipif(sys.platform != "linux", reason="loopback has one address only")
def test_instances_that_boot_at_the_same_moment_get_different_addresses(cloud: Cloud) -> None:
    """An address is reserved before its machine is up."""
    kind, price = INSTANCE_TYPES["gpu_1x_a10"], Decimal(1)
    made = [
        Instance(id=f"i{n}", name=f"n{n}", created=cloud.clock.now(), kind=kind.name, region="us-east-1")
        for n in range(3)
    ]
    cloud.state.context.records.instances.update({instance.id: instance for instance in made})

    async def boot() -> None:
        work = asyncio.gather(*(cloud.state.instances._boot(instance, price) for instance in made))
        await cloud.clock.go_on(166)
        await cloud.clock.go_on(20)  # their private addresses come later
        await work

    cloud.call(boot())
    assert {instance.ip for instance in made} == {"127.0.0.2", "127.0.0.3", "127.0.0.4"}
