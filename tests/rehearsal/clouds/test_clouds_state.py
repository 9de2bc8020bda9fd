"""What a cloud remembers, bills and tells; and that it survives its daemon."""

from __future__ import annotations

import itertools
import json
import stat
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rehearsal.clouds.clock import stamp
from tests.rehearsal.clouds.clouds_support import START, Cloud, FakeHosts


def test_the_invoice_is_price_times_whole_seconds(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """A pod bills from the accepted create to its end by the second, stopped time is free, a volume bills on.

    Its own disk bills from when it is RUNNING, which is 22 seconds later.
    """
    wanted = {"name": "v", "size": 1000, "dataCenter": "EU-RO-1", "type": "STANDARD"}
    volume = cloud.runpod.post("/network-volumes", json=wanted).json()
    gpu = {"id": "NVIDIA A100 80GB PCIe", "count": 2}
    pod_id = cloud.runpod.post("/pods", json={**pod_body, "gpu": gpu}).json()["id"]
    cloud.advance(1800.9)
    cloud.runpod.post(f"/pods/{pod_id}/action", json={"action": "stop"})
    cloud.advance(1000)
    cloud.runpod.post(f"/pods/{pod_id}/action", json={"action": "start"})
    cloud.advance(1800)
    cloud.runpod.delete(f"/pods/{pod_id}")
    cloud.advance(3600)
    bill = cloud.state.invoice()
    assert bill["machines"] == {"gpuplan-a": "3.586765"}  # and 50 GB for 2 x 1778 s at $5 in 730 hours
    assert Decimal(bill["volumes"]["v"]) == (Decimal(70) / 730 * 8200 / 3600).quantize(Decimal("0.000001"))
    assert Decimal(bill["total"]) == Decimal(bill["machines"]["gpuplan-a"]) + Decimal(bill["volumes"]["v"])
    cloud.runpod.delete(f"/network-volumes/{volume['id']}")
    cloud.advance(3600)
    assert cloud.state.invoice()["volumes"] == bill["volumes"]


def test_billing_history_adds_up_to_the_invoice(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """Hourly buckets of pods, ended ones too, and of volumes sum to what the invoice says."""
    cloud.runpod.post("/network-volumes", json={"name": "v", "size": 100, "dataCenter": "EU-RO-1"})
    first = cloud.runpod.post("/pods", json=pod_body).json()["id"]
    cloud.advance(5400.5)
    cloud.runpod.delete(f"/pods/{first}")
    second = cloud.runpod.post("/pods", json={**pod_body, "name": "gpuplan-b"}).json()["id"]
    cloud.advance(1800)
    params: dict[str, Any] = {"bucketSize": "hour", "lastN": 10}
    history = cloud.runpod.get("/billing/pods", params=params).json()
    assert history["metadata"]["uniquePodCount"] == 2
    by_pod: dict[str, float] = {}
    for record in history["records"]:
        by_pod[record["podId"]] = by_pod.get(record["podId"], 0) + record["totalAmount"]
    bill = cloud.state.invoice()["machines"]
    assert by_pod[first] == pytest.approx(float(bill["gpuplan-a"]), abs=1e-6)
    assert by_pod[second] == pytest.approx(float(bill["gpuplan-b"]), abs=1e-6)
    assert sum(by_pod.values()) == pytest.approx(history["metadata"]["totals"]["totalAmount"])
    seconds = 5378 + 1778  # RUNNING
    assert history["metadata"]["totals"]["diskAmount"] == pytest.approx(5 / 730 * seconds / 3600, abs=1e-6)
    assert history["metadata"]["totals"]["gpuAmount"] == pytest.approx(0.74 * 7200 / 3600)
    one = cloud.runpod.get("/billing/pods", params={"podId": first}).json()
    assert {record["podId"] for record in one["records"]} == {first}
    volumes = cloud.runpod.get("/billing/network-volumes", params=params).json()
    amount = float(cloud.state.invoice()["volumes"]["v"])
    assert volumes["metadata"]["totals"]["totalAmount"] == pytest.approx(amount, abs=1e-6)


def test_billing_history_has_every_hour_in_which_something_ran(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """Its buckets are whole ones, from the one in which the pod began to the one in which it ended."""
    cloud.advance(1800)
    pod = cloud.runpod.post("/pods", json=pod_body).json()["id"]
    cloud.advance(3 * 3600)
    cloud.runpod.delete(f"/pods/{pod}")
    cloud.advance(3 * 3600)
    history = cloud.runpod.get("/billing/pods", params={"bucketSize": "hour", "lastN": 48}).json()
    hours = [START + timedelta(hours=n) for n in range(5)]
    spans = [(r["startTime"], r["endTime"]) for r in history["records"]]
    assert spans == [(stamp(begin), stamp(end)) for begin, end in itertools.pairwise(hours)]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"lastN": 1, "startTime": "2026-11-01T00:00:00Z"}, 400),
        ({"lastN": 0}, 422),
        ({"bucketSize": "minute"}, 422),
        ({"startTime": "yesterday"}, 422),
        ({"startTime": "2026-12-01T00:00:00Z", "endTime": "2026-11-01T00:00:00Z"}, 400),
        ({"startTime": "2026-01-15T00:00:00Z", "bucketSize": "month"}, 200),
        ({"bucketSize": "year", "lastN": 3}, 200),
        ({"bucketSize": "week"}, 200),
    ],
)
def test_billing_windows(cloud: Cloud, params: dict[str, Any], status: int) -> None:
    """Windows align to buckets; what contradicts itself or cannot be read is refused."""
    assert cloud.runpod.get("/billing/pods", params=params).status_code == status


def test_the_log_names_every_change_once(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """Changes are there in order with name and id; reads and refusals are not."""
    cloud.runpod.get("/pods")
    cloud.runpod.post("/pods", json={**pod_body, "bogus": 1})
    pod_id = cloud.runpod.post("/pods", json=pod_body).json()["id"]
    cloud.advance(31)
    cloud.runpod.post(f"/pods/{pod_id}/action", json={"action": "stop"})
    cloud.runpod.delete(f"/pods/{pod_id}")
    log = cloud.state.log()
    assert [entry["action"] for entry in log] == ["create-machine", "stop-machine", "destroy-machine"]
    assert {(entry["name"], entry["id"], entry["api"]) for entry in log} == {("gpuplan-a", pod_id, "runpod")}


def test_a_second_daemon_goes_on_with_the_same_volumes(
    start_cloud: Callable[..., Cloud], tmp_path: Path, pod_body: dict[str, Any]
) -> None:
    """After an orderly end the machines are gone, the volumes, the keys and the bill are still there."""
    hosts = FakeHosts()
    first = start_cloud(tmp_path, hosts)
    volume = first.runpod.post("/network-volumes", json={"name": "v", "size": 10, "dataCenter": "EU-RO-1"}).json()
    first.runpod.post("/pods", json=pod_body)
    first.advance(40)
    keys, bill = first.state.api_keys(), first.state.invoice()
    first.stop()
    assert len(hosts.ended) == 1
    assert stat.S_IMODE((tmp_path / "clouds.json").stat().st_mode) == 0o600
    second = start_cloud(tmp_path, hosts)
    assert second.state.api_keys() == keys
    assert second.state.alive() == {"machines": [], "volumes": ["v"]}
    assert second.runpod.get("/network-volumes").json() == {"networkVolumes": [volume]}
    second.advance(40)
    assert second.state.invoice()["machines"] == bill["machines"]


def test_a_killed_daemon_leaves_its_pods_exited_for_the_next(
    start_cloud: Callable[..., Cloud], tmp_path: Path, pod_body: dict[str, Any]
) -> None:
    """Machines whose daemon was killed are not forgotten: the pod is EXITED, listed, and no longer billed."""
    first = start_cloud(tmp_path / "a")
    pod_id = first.runpod.post("/pods", json=pod_body).json()["id"]
    first.advance(40)
    first.state.context.save()
    content = (tmp_path / "a" / "clouds.json").read_bytes()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "clouds.json").write_bytes(content)
    second = start_cloud(tmp_path / "b")
    second.advance(60)
    shown = second.runpod.get(f"/pods/{pod_id}").json()
    assert (shown["status"], shown["ssh"]["direct"]) == ("EXITED", None)
    assert second.state.alive()["machines"] == ["gpuplan-a"]
    assert second.hosts.ended == [(pod_id, False)]
    assert second.state.invoice()["machines"] == {"gpuplan-a": "0.008256"}
    assert second.runpod.delete(f"/pods/{pod_id}").status_code == 204


def test_the_file_is_whole_at_every_moment(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """Each change is on disk as one JSON document before its reply."""
    pod_id = cloud.runpod.post("/pods", json=pod_body).json()["id"]
    kept = json.loads((cloud.state.context.file).read_bytes())
    assert kept["pods"][pod_id]["name"] == "gpuplan-a"
