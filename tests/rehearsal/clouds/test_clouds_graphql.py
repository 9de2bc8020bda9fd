"""The emulated GraphQL: interruptible pods, fences, balance, and the vendor's SDK as its client."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.rehearsal.clouds.clouds_support import KEY, START, Cloud

SPOT = """
mutation Rent($input: PodRentInterruptableInput!) {
  podRentInterruptable(input: $input) { id desiredStatus costPerHr podType machine { location dataCenterId } }
}
"""
DEPLOY = "mutation M($input: PodFindAndDeployOnDemandInput!) { podFindAndDeployOnDemand(input: $input) { id } }"
TERMINATE = "mutation T($id: String!) { podTerminate(input: {podId: $id}) }"


def wanted(**more: Any):
    return {
        "name": "gpuplan-spot",
        "imageName": "runpod/pytorch",
        "gpuTypeId": "NVIDIA A100 80GB PCIe",
        "gpuCount": 2,
        "cloudType": "SECURE",
        "ports": "22/tcp",
        "env": [{"key": "PUBLIC_KEY", "value": KEY}],
    } | more


def test_an_interruptible_pod_costs_its_bid_and_is_the_same_pod_in_rest(cloud: Cloud):
    """The mutation podRentInterruptable makes a pod that REST lists too, at the price of the bid."""
    made = cloud.graphql(SPOT, input=wanted(bidPerGpu=0.895)).json()["data"]["podRentInterruptable"]
    assert (made["podType"], made["costPerHr"]) == ("INTERRUPTABLE", 1.79)
    cloud.advance(31)
    pod = cloud.runpod.get(f"/pods/{made['id']}").json()
    assert (pod["name"], pod["gpu"]["count"], pod["cost"]) == ("gpuplan-spot", 2, 1.79)
    assert pod["ssh"]["direct"] is not None


def test_a_bid_below_the_minimum_finds_nothing(cloud: Cloud):
    """Business errors come with HTTP 200 and errors, and nothing is made."""
    reply = cloud.graphql(SPOT, input=wanted(bidPerGpu=0.1))
    assert reply.status_code == 200
    assert "no longer any instances" in reply.json()["errors"][0]["message"]
    assert reply.json()["errors"][0]["extensions"]["code"] == "RUNPOD"
    assert cloud.state.log() == []


def test_a_pod_that_was_pre_empted_cannot_be_resumed(cloud: Cloud):
    """An outbid pod stays EXITED: resume finds no machine."""
    pod_id = cloud.graphql(SPOT, input=wanted(bidPerGpu=1)).json()["data"]["podRentInterruptable"]["id"]
    cloud.advance(31)
    cloud.state.arm("preempt", "convert")
    cloud.call(cloud.state.step_started("convert", "gpuplan-spot"))
    cloud.advance(2)
    query = "query P($id: String) { pod(input: {podId: $id}) { desiredStatus runtime { uptimeInSeconds } } }"
    assert cloud.graphql(query, id=pod_id).json()["data"]["pod"] == {"desiredStatus": "EXITED", "runtime": None}
    resume = "mutation R($id: String!) { podResume(input: {podId: $id, gpuCount: 2}) { id } }"
    assert "no longer any" in cloud.graphql(resume, id=pod_id).json()["errors"][0]["message"]


def test_terminate_after_ends_the_pod_at_its_moment(cloud: Cloud):
    """The moment of terminateAfter is real time; then the pod is gone and its bill ends."""
    until = (START + timedelta(minutes=10)).isoformat()
    pod_id = cloud.graphql(DEPLOY, input=wanted(terminateAfter=until)).json()["data"]["podFindAndDeployOnDemand"]["id"]
    cloud.advance(599)
    assert cloud.runpod.get(f"/pods/{pod_id}").status_code == 200
    cloud.advance(2)
    assert cloud.runpod.get(f"/pods/{pod_id}").status_code == 404
    cloud.advance(3600)
    assert cloud.state.invoice()["machines"] == {"gpuplan-spot": "0.596886"}  # 10 GB for 578 s


def test_stop_after_stops_the_pod(cloud: Cloud):
    """The moment of stopAfter leaves the pod EXITED."""
    until = (START + timedelta(minutes=10)).isoformat()
    pod_id = cloud.graphql(DEPLOY, input=wanted(stopAfter=until)).json()["data"]["podFindAndDeployOnDemand"]["id"]
    cloud.advance(601)
    assert cloud.runpod.get(f"/pods/{pod_id}").json()["status"] == "EXITED"


def test_a_pods_own_key_ends_that_pod_only_and_is_refused_by_rest(cloud: Cloud, pod_body: dict[str, Any]):
    """RUNPOD_API_KEY of a machine terminates its own pod through GraphQL; REST answers 403, another pod is refused."""
    mine = cloud.runpod.post("/pods", json=pod_body).json()["id"]
    other = cloud.runpod.post("/pods", json=pod_body).json()["id"]
    cloud.advance(31)
    env = cloud.hosts.specs[mine].env
    headers = {"Authorization": f"Bearer {env['RUNPOD_API_KEY']}", "User-Agent": "runpodctl"}
    assert httpx.get(f"{cloud.url}/v2/pods/{mine}", headers=headers).status_code == 403

    def end(pod_id: str):
        body = {"query": TERMINATE, "variables": {"id": pod_id}}
        return httpx.post(f"{env['RUNPOD_API_BASE_URL']}/graphql", json=body, headers=headers).json()

    assert end(other)["errors"][0]["message"] == "Unauthorized"
    assert end(mine) == {"data": {"podTerminate": None}}
    assert cloud.runpod.get(f"/pods/{mine}").status_code == 404
    assert cloud.runpod.get(f"/pods/{other}").status_code == 200


def test_balance_and_spending_follow_the_pods(cloud: Cloud):
    """The query myself tells what is left of the credit and what runs up an hour."""
    query = "{ me: myself { clientBalance currentSpendPerHr pods { id } networkVolumes { id } } }"
    cloud.graphql(DEPLOY, input=wanted())
    cloud.advance(3600)
    me = cloud.graphql(query).json()["data"]["me"]
    assert me["currentSpendPerHr"] == pytest.approx(3.58 + 1 / 730)  # with ten GB of its own
    assert me["clientBalance"] == pytest.approx(996.42 - 1 / 730 * 3578 / 3600)
    assert len(me["pods"]) == 1


def test_prices_by_place_and_count(cloud: Cloud):
    """The lowestPrice follows its arguments; where a type is not sold, everything is null."""
    query = """query G($in: GpuLowestPriceInput) {
      gpuTypes(input: {id: "NVIDIA H100 80GB HBM3"}) {
        id lowestPrice(input: $in) { minimumBidPrice uninterruptablePrice stockStatus availableGpuCounts }
      }
    }"""

    def ask(**arguments: Any):
        return cloud.graphql(query, **{"in": arguments}).json()["data"]["gpuTypes"][0]["lowestPrice"]

    here = ask(gpuCount=2, secureCloud=True, dataCenterId="US-KS-2")
    assert (here["uninterruptablePrice"], here["minimumBidPrice"], here["stockStatus"]) == (3.99, 1.995, "High")
    assert ask(gpuCount=1, dataCenterId="US-TX-3") == dict.fromkeys(here)


def test_what_graphql_itself_refuses_is_400(cloud: Cloud):
    """A query that does not fit the schema is HTTP 400 with a code, unlike business errors."""
    reply = cloud.graphql("{ myself { shoeSize } }")
    assert reply.status_code == 400
    assert reply.json()["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert cloud.graphql("{ myself {").status_code == 400
    assert cloud.graphql(SPOT, input={"name": "x"}).status_code == 400
    assert cloud.graphql(SPOT, input=wanted(bidPerGpu=1, spot=True)).status_code == 400


def test_the_catalogue_needs_no_key_and_the_account_does(cloud: Cloud):
    """The query gpuTypes answers anybody; myself does not; a wrong key is 401."""
    url, headers = f"{cloud.url}/graphql", {"User-Agent": "x"}
    assert len(httpx.post(url, json={"query": "{ gpuTypes { id } }"}, headers=headers).json()["data"]["gpuTypes"]) == 9
    assert "errors" in httpx.post(url, json={"query": "{ myself { id } }"}, headers=headers).json()
    wrong = headers | {"Authorization": "Bearer nonsense"}
    assert httpx.post(url, json={"query": "{ gpuTypes { id } }"}, headers=wrong).status_code == 401


SDK = """
import sys, runpod
from runpod.api.graphql import run_graphql_query
from runpod.error import QueryError
runpod.api_key = sys.argv[1]
key = {"PUBLIC_KEY": sys.argv[2]}
pod = runpod.create_pod("sdk", "img", "NVIDIA A100 80GB PCIe", ports="22/tcp", env=key, volume_in_gb=20)
spent = run_graphql_query("query { myself { currentSpendPerHr } }")["data"]["myself"]["currentSpendPerHr"]
try:
    run_graphql_query('mutation { podStop(input: {podId: "nope"}) { id } }')
except QueryError as error:
    print(pod["id"], spent, error)
try:
    runpod.create_pod("sdk", "img", "No Such Card")
except ValueError as error:
    print(error)
print(runpod.create_pod("cpu", "img", instance_id="cpu3c-4-8", template_id=None)["id"] != pod["id"])
print(runpod.get_gpu("NVIDIA H200")["lowestPrice"]["uninterruptablePrice"], len(runpod.get_pods()))
"""


def test_the_vendors_sdk_works_against_it(cloud: Cloud):
    """The runpod SDK 1.12 creates, reads and fails against the emulator as against the vendor."""
    environment = dict(os.environ, RUNPOD_API_BASE_URL=cloud.url, HOME="/nonexistent")
    command = [sys.executable, "-c", SDK, cloud.state.api_keys()["runpod"], KEY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    pod_id, spent, *words = lines[0].split()
    assert (spent, " ".join(words)) == ("1.79", "pod not found")
    assert lines[1:] == [
        "No GPU found with the specified ID, run runpod.get_gpus() to get a list of all GPUs",
        "True",
        "4.59 0",
    ]
    cloud.advance(31)
    pod = cloud.runpod.get(f"/pods/{pod_id}").json()
    assert pod["mounts"] == {"persistent": {"size": 20, "path": "/runpod-volume"}}
