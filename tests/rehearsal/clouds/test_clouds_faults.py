"""The switchboard: every disaster happens as often as it was armed, and leaves what it should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.rehearsal import faults
from tests.rehearsal.clouds.clouds_support import KEY, Cloud

DEPLOY = "mutation M($input: PodFindAndDeployOnDemandInput!) { podFindAndDeployOnDemand(input: $input) { id } }"
INPUT = {"name": "gpuplan-a", "imageName": "i", "gpuTypeId": "NVIDIA L40S", "gpuCount": 1}
LAUNCH = {"region_name": "us-east-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["k"], "name": "gpuplan-a"}


def rest(cloud: Cloud, pod_body: dict[str, Any]) -> httpx.Response:
    return cloud.runpod.post("/pods", json=pod_body)


def graphql(cloud: Cloud, _pod_body: dict[str, Any]) -> httpx.Response:
    return cloud.graphql(DEPLOY, input=INPUT)


def lambda_cloud(cloud: Cloud, _pod_body: dict[str, Any]) -> httpx.Response:
    if not cloud.state.context.records.ssh_keys:
        cloud.lambda_cloud.post("/ssh-keys", json={"name": "k", "public_key": KEY})
    cloud.advance(12)
    return cloud.lambda_cloud.post("/instance-operations/launch", json=LAUNCH)


CREATES = pytest.mark.parametrize("create", [rest, graphql, lambda_cloud])
Create = Callable[[Cloud, dict[str, Any]], httpx.Response]


def made(cloud: Cloud) -> int:
    return [entry["action"] for entry in cloud.state.log()].count("create-machine")


@CREATES
def test_create_reply_lost_makes_the_machine_and_drops_the_connection(
    cloud: Cloud, pod_body: dict[str, Any], create: Create
) -> None:
    """The client sees no byte of a reply, the machine exists under its name, and the next create is answered."""
    cloud.state.arm("create-reply-lost")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        create(cloud, pod_body)
    assert made(cloud) == 1
    assert cloud.state.alive()["machines"] == ["gpuplan-a"]
    assert cloud.state.faults() == [{"name": "create-reply-lost", "arg": None, "left": 0, "fired": 1}]
    assert create(cloud, pod_body).is_success
    assert made(cloud) == 2


@CREATES
def test_create_refused_capacity_makes_nothing(cloud: Cloud, pod_body: dict[str, Any], create: Create) -> None:
    """Armed with a count it refuses so many creates in the vendor's words, then sells again."""
    cloud.state.arm("create-refused-capacity", "2")
    for _ in range(2):
        text = create(cloud, pod_body).text
        assert "no longer any instances available" in text or "insufficient-capacity" in text
    assert made(cloud) == 0
    create(cloud, pod_body)
    assert made(cloud) == 1


@pytest.mark.parametrize(("where", "strikes"), [("convert", 1), ("day4/convert", 1), ("day2/convert", 0)])
def test_a_fault_is_at_a_step_by_its_name_or_with_its_phase(
    cloud: Cloud, pod_body: dict[str, Any], where: str, strikes: int
) -> None:
    """Two phases may have a step of one name: with its phase only that one is meant."""
    rest(cloud, pod_body)
    cloud.state.arm("ssh-cut", where)
    cloud.call(cloud.state.step_started("day4/convert", "gpuplan-a"))
    assert [fault["fired"] for fault in cloud.state.faults()] == [strikes]


def test_preempt_takes_the_pod_away_a_second_after_its_step_began(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """EXITED, host dead, disk wiped, nothing billed any more; another step and a second time leave pods alone."""
    pod_id = rest(cloud, pod_body).json()["id"]
    cloud.advance(31)
    cloud.state.arm("preempt", "convert")
    cloud.call(cloud.state.step_started("other", "gpuplan-a"))
    cloud.call(cloud.state.step_started("convert", "gpuplan-a"))
    assert cloud.runpod.get(f"/pods/{pod_id}").json()["status"] == "RUNNING"
    cloud.advance(1)
    shown = cloud.runpod.get(f"/pods/{pod_id}").json()
    assert (shown["status"], shown["ssh"]["direct"], shown["runtime"]) == ("EXITED", None, None)
    assert cloud.hosts.ended == [(pod_id, False)]
    bill = cloud.state.invoice()["machines"]
    cloud.advance(3600)
    assert cloud.state.invoice()["machines"] == bill == {"gpuplan-a": "0.006596"}  # 32 s at 0.74, 10 s of 50 GB
    cloud.runpod.post(f"/pods/{pod_id}/action", json={"action": "start"})
    cloud.advance(31)
    cloud.call(cloud.state.step_started("convert", "gpuplan-a"))
    cloud.advance(2)
    assert cloud.runpod.get(f"/pods/{pod_id}").json()["status"] == "RUNNING"


def test_preempt_on_lambda(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """An instance shows as preempted, costs nothing, and leaves the list by itself."""
    lambda_cloud(cloud, pod_body)
    cloud.advance(165)
    cloud.state.arm("preempt", "convert")
    cloud.call(cloud.state.step_started("convert", "gpuplan-a"))
    cloud.advance(2)
    (shown,) = cloud.lambda_cloud.get("/instances").json()["data"]
    assert (shown["status"], "ip" in shown) == ("preempted", False)
    assert cloud.state.alive()["machines"] == []
    cloud.advance(60)
    assert cloud.lambda_cloud.get("/instances").json() == {"data": []}


def test_ssh_cut_drops_connections_once(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """The host's connections are cut and the pod goes on."""
    pod_id = rest(cloud, pod_body).json()["id"]
    cloud.advance(31)
    cloud.state.arm("ssh-cut", "download")
    for _ in range(2):
        cloud.call(cloud.state.step_started("download", "gpuplan-a"))
        cloud.advance(2)
    assert cloud.hosts.cuts == [pod_id]
    assert cloud.runpod.get(f"/pods/{pod_id}").json()["status"] == "RUNNING"


def test_delete_still_listed_bills_on_until_the_pod_is_really_gone(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """DELETE says 204, yet the pod is listed, alive and billed for 20 more cloud seconds."""
    pod_id = rest(cloud, pod_body).json()["id"]
    cloud.advance(31)
    cloud.state.arm("delete-still-listed")
    assert cloud.runpod.delete(f"/pods/{pod_id}").status_code == 204
    cloud.advance(19)
    assert [pod["status"] for pod in cloud.runpod.get("/pods").json()["pods"]] == ["RUNNING"]
    assert cloud.hosts.ended == []
    assert cloud.runpod.delete(f"/pods/{pod_id}").status_code == 204
    assert cloud.runpod.get(f"/pods/{pod_id}").status_code == 200
    cloud.advance(2)
    assert cloud.runpod.get(f"/pods/{pod_id}").status_code == 404
    assert cloud.hosts.ended == [(pod_id, False)]
    assert cloud.state.invoice()["machines"] == {"gpuplan-a": "0.010538"}  # 51 s at 0.74, 29 s of 50 GB


def test_delete_still_listed_on_lambda(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """A terminated instance stays terminating for long, and runs until then."""
    identity = lambda_cloud(cloud, pod_body).json()["data"]["instance_ids"][0]
    cloud.advance(165)
    cloud.state.arm("delete-still-listed")
    cloud.lambda_cloud.post("/instance-operations/terminate", json={"instance_ids": [identity]})
    cloud.advance(19)
    assert cloud.lambda_cloud.get(f"/instances/{identity}").json()["data"]["status"] == "terminating"
    assert cloud.hosts.ended == []
    cloud.advance(10)
    assert cloud.lambda_cloud.get(f"/instances/{identity}").status_code == 404
    assert cloud.state.alive()["machines"] == []


@pytest.mark.parametrize(
    ("name", "arg", "words"),
    [
        ("pre-empt", "x", "known are"),
        ("preempt", None, "preempt@STEP"),
        ("preempt", "step:none", "COUNT"),
        ("create-refused-capacity", "0", "COUNT"),
        ("create-refused-capacity", "convert", "COUNT"),
        ("hub-429", "x", "COUNT"),
        ("cuda-missing", "first", "GPU is a whole number"),
    ],
)
def test_arming_nonsense_is_told(cloud: Cloud, name: str, arg: str | None, words: str) -> None:
    """An unknown fault, a missing step and a bad count are refused with what would be right."""
    with pytest.raises(ValueError, match=words):
        cloud.state.arm(name, arg)
    assert cloud.state.faults() == []


def test_a_count_arms_a_step_fault_more_than_once(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """STEP:COUNT happens at so many starts of the step."""
    rest(cloud, pod_body)
    cloud.advance(31)
    cloud.state.arm("ssh-cut", "s:2")
    for _ in range(3):
        cloud.call(cloud.state.step_started("s", "gpuplan-a"))
        cloud.advance(2)
    assert len(cloud.hosts.cuts) == 2


@CREATES
def test_a_500_can_hide_a_machine(cloud: Cloud, pod_body: dict[str, Any], create: Create) -> None:
    """The server says that it failed, and the machine exists."""
    cloud.state.arm("create-500")
    assert create(cloud, pod_body).status_code == 500
    assert cloud.state.alive()["machines"] == ["gpuplan-a"]


@CREATES
def test_half_a_reply_can_hide_a_machine(cloud: Cloud, pod_body: dict[str, Any], create: Create) -> None:
    """The body ends before its length, and the machine exists."""
    cloud.state.arm("create-reply-cut")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        create(cloud, pod_body)
    assert cloud.state.alive()["machines"] == ["gpuplan-a"]


@pytest.mark.parametrize(
    ("fault", "create", "status"),
    [
        ("create-refused-payment", rest, 402),
        ("create-refused-payment", lambda_cloud, 403),
        ("create-refused-pool", rest, 403),
        ("create-refused-pool", lambda_cloud, 400),
    ],
)
def test_account_refusals_make_nothing(
    cloud: Cloud, pod_body: dict[str, Any], fault: str, create: Create, status: int
) -> None:
    """Each vendor refuses in its own way, and no machine appears."""
    cloud.state.arm(fault)
    assert create(cloud, pod_body).status_code == status
    assert made(cloud) == 0


def test_volume_reply_lost_makes_the_volume(cloud: Cloud) -> None:
    """A volume whose reply was lost can be found by its name, on both clouds."""
    cloud.state.arm("volume-reply-lost", "2")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        cloud.runpod.post("/network-volumes", json={"name": "v", "size": 10, "dataCenter": "EU-RO-1"})
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        cloud.lambda_cloud.post("/filesystems", json={"name": "v", "region": "us-east-1"})
    assert [volume["name"] for volume in cloud.runpod.get("/network-volumes").json()["networkVolumes"]] == ["v"]
    assert [volume["name"] for volume in cloud.lambda_cloud.get("/file-systems").json()["data"]] == ["v"]
    assert len(set(cloud.hosts.volumes)) == 2


def boot(cloud: Cloud, pod_body: dict[str, Any], fault: str) -> tuple[dict[str, Any], dict[str, Any]]:
    cloud.state.arm(fault, "2")
    pod_id = rest(cloud, pod_body).json()["id"]
    identity = lambda_cloud(cloud, pod_body).json()["data"]["instance_ids"][0]
    cloud.advance(600)
    instance = cloud.lambda_cloud.get(f"/instances/{identity}").json()["data"]
    return cloud.runpod.get(f"/pods/{pod_id}").json(), instance


@pytest.mark.parametrize(
    ("fault", "pod_status", "instance_status", "hosts"),
    [
        ("boot-never", "PROVISIONING", "booting", 0),
        ("boot-error", "ERROR", "unhealthy", 0),
        ("boot-no-address", "RUNNING", "active", 1),
        ("boot-no-gpu", "RUNNING", "active", 2),
    ],
)
def test_boots_that_go_wrong(
    cloud: Cloud, pod_body: dict[str, Any], fault: str, pod_status: str, instance_status: str, hosts: int
) -> None:
    """Each bad boot looks on both clouds as it does there, and can be ended."""
    pod, instance = boot(cloud, pod_body, fault)
    assert (pod["status"], instance["status"], len(cloud.hosts.specs)) == (pod_status, instance_status, hosts)
    if fault != "boot-no-gpu":
        assert (pod["ssh"]["direct"], "ip" in instance) == (None, False)
    else:
        assert {spec.gpus for spec in cloud.hosts.specs.values()} == {0}
    assert cloud.runpod.delete(f"/pods/{pod['id']}").status_code == 204
    cloud.lambda_cloud.post("/instance-operations/terminate", json={"instance_ids": [instance["id"]]})
    assert (cloud.state.alive()["machines"], cloud.hosts.specs) == ([], {})


def test_list_lag_hides_a_machine_for_a_minute(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """The machine boots, unseen, and shows up later."""
    cloud.state.arm("list-lag")
    rest(cloud, pod_body)
    cloud.advance(59)
    assert cloud.runpod.get("/pods").json() == {"pods": []}
    cloud.advance(2)
    assert len(cloud.runpod.get("/pods").json()["pods"]) == 1


@pytest.mark.parametrize(
    ("fault", "status", "alive"),
    [("delete-500", 500, []), ("delete-404", 404, ["gpuplan-a"]), ("delete-refused", 503, ["gpuplan-a"])],
)
def test_deletes_that_go_wrong(
    cloud: Cloud, pod_body: dict[str, Any], fault: str, status: int, alive: list[str]
) -> None:
    """The status of a delete says little: look whether the machine is there."""
    identity = lambda_cloud(cloud, pod_body).json()["data"]["instance_ids"][0]
    cloud.state.arm(fault)
    body = {"instance_ids": [identity]}
    assert cloud.lambda_cloud.post("/instance-operations/terminate", json=body).status_code == status
    assert cloud.state.alive()["machines"] == alive
    cloud.advance(2)
    cloud.lambda_cloud.post("/instance-operations/terminate", json=body)
    pod_id = rest(cloud, pod_body).json()["id"]
    cloud.advance(31)
    cloud.state.arm(fault)
    assert cloud.runpod.delete(f"/pods/{pod_id}").status_code == status
    assert cloud.state.alive()["machines"] == alive


def test_any_call_can_meet_trouble(cloud: Cloud) -> None:
    """429 with Retry-After, 503 and the front door on RunPod; 429 in no standard shape and 503 on Lambda."""
    cloud.state.arm("rate-limited", "2")
    limited = cloud.runpod.get("/pods")
    assert (limited.status_code, int(limited.headers["Retry-After"]) > 0) == (429, True)
    assert limited.json()["detail"] == "rate limit exceeded for the minute window"
    assert cloud.lambda_cloud.get("/regions").text == "Too many requests"
    cloud.state.arm("unavailable", "3")
    assert cloud.runpod.get("/pods").status_code == 503
    assert cloud.lambda_cloud.get("/regions").json()["error"]["code"] == "provider/internal-unavailable"
    assert cloud.graphql("{ gpuTypes { id } }").text.startswith("<html>")
    cloud.state.arm("front-door")
    assert cloud.runpod.get("/pods").headers["Content-Type"].startswith("text/html")
    assert cloud.runpod.get("/pods").status_code == 200


def test_graphql_can_be_retired_and_can_answer_null(cloud: Cloud) -> None:
    """410 for a retired API; null data without an error means that nothing was made."""
    cloud.state.arm("graphql-gone")
    assert cloud.graphql("{ gpuTypes { id } }").status_code == 410
    cloud.state.arm("graphql-null")
    assert cloud.graphql(DEPLOY, input=INPUT).json() == {"data": {"podFindAndDeployOnDemand": None}}
    assert made(cloud) == 0


def test_every_fault_is_described_and_used() -> None:
    """No fault is only a name: each is taken somewhere in the emulators."""
    folder = Path(faults.__file__).parent
    sources = "".join(path.read_text() for path in folder.rglob("*.py") if path.name != "faults.py")
    assert [name for name in faults.KNOWN if f'"{name}"' not in sources] == []
