"""Lambda by its own specification's examples."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from orchestrator.providers.http import RateLimited
from orchestrator.providers.lambdalabs import Lambda
from orchestrator.words.errors import AccountRefused, Ambiguous, NoCapacity, ProviderUnavailable, Refused
from orchestrator.words.provider import Address, MachineStatus
from tests.unit.providers.vendor_replay import ACCESS, LAMBDA, Vendor, contract, offer, problems, spec

SCHEMAS = contract(LAMBDA)["components"]["schemas"]
TYPE = SCHEMAS["InstanceTypes"]["example"]["gpu_8x_example"]
TERMINATED = contract(LAMBDA)["paths"]["/api/v1/instance-operations/terminate"]["post"]["responses"]["200"]
INSTANCE = TERMINATED["content"]["application/json"]["schema"]["properties"]["data"]["examples"][0][
    "terminated_instances"
][0]
OURS = INSTANCE | {"name": "gpuplan-abcd1234-r1-day1-1-t1796126400", "status": "active"}
OUR_KEY = {"id": "k", "name": "gpuplan-abcd1234", "public_key": "ssh-ed25519 AAAA other comment"}
LAUNCHED = {"data": {"instance_ids": [INSTANCE["id"]]}}
LAUNCH, KEYS, TERMINATE = "POST /instance-operations/launch", "GET /ssh-keys", "POST /instance-operations/terminate"


def cloud(table: dict[str, Any]) -> tuple[Lambda, Vendor]:
    vendor = Vendor(table)
    return Lambda(replace(ACCESS, transport=vendor.transport)), vendor


def machine(**changes: Any):
    place = offer(provider="lambda", type_id="gpu_1x_a100_sxm4", place="us-west-1")
    return spec(**({"offer": place, "image": ""} | changes))


def error(code: str, status: int = 400) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": code, "message": "words", "suggestion": "do this"}}


def kind(
    name: str, description: str, gpus: int, cents: int, regions: tuple[str, ...] = ("us-west-1",)
) -> dict[str, Any]:
    specs = TYPE["instance_type"]["specs"] | {"gpus": gpus}
    detail = {"name": name, "gpu_description": description, "price_cents_per_hour": cents, "specs": specs}
    places = [{"name": r, "description": r} for r in regions]
    return {"instance_type": TYPE["instance_type"] | detail, "regions_with_capacity_available": places}


def test_types_become_offers_where_there_is_capacity():
    """One offer per type and region; other architectures and sold-out types are left out."""
    types = {
        k["instance_type"]["name"]: k
        for k in (
            kind("gpu_1x_a100_sxm4", "A100 (40 GB SXM4)", 1, 199, ("us-west-1", "us-east-1")),
            kind("gpu_1x_h100_pcie", "H100 (80 GB PCIe)", 1, 329),
            kind("gpu_1x_a10", "A10 (24 GB PCIe)", 1, 129, ()),
            kind("gpu_1x_gh200", "GH200 (96 GB)", 1, 229),
            kind("gpu_8x_a100_80gb_sxm4", "A100 (80 GB SXM4)", 8, 2232),
            kind("cpu_4x_general", "N/A", 0, 20),
        )
    }
    provider, _ = cloud({"GET /instance-types": {"data": types}})
    found = [(o.gpu, o.memory_gb, o.price_hour, o.place) for o in provider.offers(gpus=1, spot=False)]
    assert found == [
        ("A100-40GB", 40, Decimal("1.99"), "us-east-1"),
        ("A100-40GB", 40, Decimal("1.99"), "us-west-1"),
        ("H100-80GB", 80, Decimal("3.29"), "us-west-1"),
    ]
    assert [o.gpu for o in provider.offers(gpus=8, spot=False)] == ["A100-80GB"]
    assert [("", Decimal("0.20"))] == [(o.gpu, o.price_hour) for o in provider.offers(gpus=0, spot=False)]
    assert provider.offers(gpus=1, spot=True) == []


def test_a_launch_says_all_that_is_meant():
    """The body fits the schema: one key, name, tags, and the file system mounted at the one path of all volumes."""
    provider, vendor = cloud({KEYS: {"data": [OUR_KEY]}, LAUNCH: LAUNCHED})
    assert INSTANCE["id"] == provider.create(
        machine(volume_id="f1", volume_name="gpuplan-v", image="lambda-stack-22-04")
    )
    (body,) = vendor.sent("POST", "/instance-operations/launch")
    assert problems(LAMBDA, "/api/v1/instance-operations/launch", "post", body) == []
    assert body == {
        "region_name": "us-west-1",
        "instance_type_name": "gpu_1x_a100_sxm4",
        "ssh_key_names": ["gpuplan-abcd1234"],
        "name": "gpuplan-abcd1234-r1-day1-1-t1796126400",
        "tags": [
            {"key": "gpuplan-owner", "value": "abcd1234"},
            {"key": "gpuplan-deadline", "value": "2026-12-01T12:00:00Z"},
        ],
        "file_system_names": ["gpuplan-v"],
        "file_system_mounts": [{"file_system_id": "f1", "mount_point": provider.mount_path}],
        "image": {"family": "lambda-stack-22-04"},
    }


def test_the_key_is_stored_once():
    """A key that Lambda lacks is stored under the owner's name before the launch, and not looked up again."""
    stored = {"data": SCHEMAS["SSHKey"]["properties"]}
    provider, vendor = cloud({KEYS: {"data": []}, "POST /ssh-keys": stored, LAUNCH: LAUNCHED})
    provider.create(machine())
    provider.create(machine())
    (body,) = vendor.sent("POST", "/ssh-keys")
    assert body == {"name": "gpuplan-abcd1234", "public_key": "ssh-ed25519 AAAA me"}
    assert problems(LAMBDA, "/api/v1/ssh-keys", "post", body) == []
    assert len(vendor.sent("GET", "/ssh-keys")) == 1


def test_another_key_under_our_name_is_left_alone():
    """An older key of the same owner keeps its name: the new one gets a name of its own."""
    other = OUR_KEY | {"public_key": "ssh-ed25519 BBBB old"}
    provider, vendor = cloud({KEYS: {"data": [other]}, "POST /ssh-keys": {"data": other}, LAUNCH: LAUNCHED})
    provider.create(machine())
    (body,) = vendor.sent("POST", "/ssh-keys")
    assert body["name"].startswith("gpuplan-abcd1234-")
    (launch,) = vendor.sent("POST", "/instance-operations/launch")
    assert [body["name"]] == launch["ssh_key_names"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (error("instance-operations/launch/insufficient-capacity"), NoCapacity),
        (error("global/quota-exceeded"), Refused),
        (error("instance-operations/launch/file-system-in-wrong-region"), Refused),
        (error("global/object-does-not-exist", 404), Refused),
        (error("global/invalid-api-key", 401), AccountRefused),
        (error("global/account-inactive", 403), AccountRefused),
        (error("provider/internal-unavailable", 503), Ambiguous),
        ((200, {"data": {"instance_ids": []}}), Ambiguous),
        ((200, {"data": None}), Ambiguous),
        ((301, "moved"), Refused),
        (httpx.ReadTimeout("slow"), Ambiguous),
    ],
)
def test_what_a_launch_means(reply: Any, expected: type[Exception]):
    """Each documented refusal has its kind; the launch is sent once."""
    provider, vendor = cloud({KEYS: {"data": [OUR_KEY]}, LAUNCH: reply})
    with pytest.raises(expected) as raised:
        provider.create(machine())
    assert type(raised.value) is expected
    assert len(vendor.sent("POST", "/instance-operations/launch")) == 1


@pytest.mark.parametrize(
    "body", [{"error": {"code": "global/rate-limited", "message": "slow down"}}, "Too many requests"]
)
def test_rate_limits_after_a_launch_are_waited_out(body: Any):
    """429s of either shape delay what follows a launch; nothing is launched twice and the machine can be ended."""
    limited = [(429, body)] * 3
    provider, vendor = cloud(
        {
            KEYS: {"data": [OUR_KEY]},
            LAUNCH: LAUNCHED,
            f"GET /instances/{INSTANCE['id']}": [*limited, {"data": OURS}],
            TERMINATE: [*limited, {"data": {"terminated_instances": [INSTANCE]}}],
        }
    )
    created = provider.create(machine())
    assert provider.machine(created) is not None
    provider.destroy(created)
    assert len(vendor.sent("POST", "/instance-operations/launch")) == 1
    assert [{"instance_ids": [created]}] * 4 == vendor.sent("POST", "/instance-operations/terminate")


def test_a_rate_limit_that_does_not_end_is_raised():
    """The wait for 429s is bounded."""
    provider, _ = cloud({"GET /instances": (429, "no", {"Retry-After": "100"})})
    with pytest.raises(RateLimited):
        provider.machines()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"status": "active"}, MachineStatus.READY),
        ({"status": "active", "ip": None}, MachineStatus.BOOTING),
        ({"status": "booting"}, MachineStatus.BOOTING),
        ({"status": "unhealthy"}, MachineStatus.FAILED),
        ({"status": "preempted"}, MachineStatus.STOPPED),
        ({"status": "terminating"}, MachineStatus.ENDING),
        ({"status": "hibernated"}, MachineStatus.FAILED),
    ],
)
def test_status_in_our_words(changes: dict[str, Any], status: MachineStatus):
    """An unknown word is a failure; only READY has an address."""
    provider, _ = cloud({"GET /instances/i": {"data": OURS | changes}})
    found = provider.machine("i")
    assert found is not None
    assert status is found.status
    assert (Address("198.51.100.2", 22, "ubuntu") if status is MachineStatus.READY else None) == found.address
    assert ("10.0.2.100", Decimal("15.92"), "us-west-1") == (found.private_ip, found.price_hour, found.place)
    assert INSTANCE["jupyter_token"] not in repr(found)


def test_lists_hold_ours_that_live():
    """Other people's instances and terminated ones are left out; a terminated instance is gone."""
    rows = [INSTANCE, OURS, OURS | {"id": "old", "status": "terminated"}, {"id": "n", "status": "booting"}]
    provider, _ = cloud({"GET /instances": {"data": rows}, "GET /instances/old": {"data": rows[2]}})
    assert [INSTANCE["id"]] == [m.id for m in provider.machines()]
    assert provider.machine("old") is None
    assert provider.machine("unknown") is None


def test_ends_are_idempotent():
    """An unknown instance is ended already; one that may not be ended yet may pass."""
    too_early = error("global/invalid-parameters")
    provider, _ = cloud({TERMINATE: [too_early, error("global/object-does-not-exist", 404)]})
    with pytest.raises(ProviderUnavailable):
        provider.destroy("i")
    provider.destroy("i")


def test_file_systems_are_the_volumes():
    """Size and price follow the bytes in use; only ours are shown; one in use may pass."""
    fs = {
        "id": "f1",
        "name": "gpuplan-v",
        "mount_point": "/lambda/nfs/gpuplan-v",
        "is_in_use": False,
        "region": {"name": "us-west-1", "description": ""},
        "bytes_used": 10**9 + 1,
    }
    table = {
        "GET /file-systems": {"data": [fs, fs | {"name": "mine"}]},
        "POST /filesystems": {"data": fs},
        "DELETE /filesystems/f1": [error("filesystems/filesystem-in-use"), {"data": {"deleted_ids": ["f1"]}}],
    }
    provider, vendor = cloud(table)
    (found,) = provider.volumes()
    assert ("f1", 2, Decimal("0.4") / 720) == (found.id, found.size_gb, found.price_hour)
    assert provider.create_volume("gpuplan-v", 1000, "us-west-1") == "f1"
    (body,) = vendor.sent("POST", "/filesystems")
    assert problems(LAMBDA, "/api/v1/filesystems", "post", body) == []
    with pytest.raises(ProviderUnavailable, match="in-use"):
        provider.destroy_volume("f1")
    provider.destroy_volume("f1")
    provider.destroy_volume("unknown")


@pytest.mark.parametrize("name", ["9lives", "a" * 61, "gpuplan_v", ""])
def test_a_name_that_lambda_would_refuse_is_not_sent(name: str):
    """File system names have Lambda's own rules; a launch's name has at most 64 characters."""
    provider, vendor = cloud({})
    with pytest.raises(Refused, match="file system name"):
        provider.create_volume(name, 10, "us-west-1")
    with pytest.raises(Refused, match="64"):
        provider.create(machine(name="gpuplan-" + "x" * 60))
    assert vendor.requests == []


def test_a_machine_cannot_end_its_own_bill():
    """The key that could is the whole account's, so no script holds it; there is no bill to read either."""
    provider, _ = cloud({})
    assert provider.end_bill_script() == ""
    assert provider.billed(["i"]) == {}
