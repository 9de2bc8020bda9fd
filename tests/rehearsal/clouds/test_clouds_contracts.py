"""The vendors' OpenAPI files judge requests and replies, and the emulators hold to them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.rehearsal.clouds.contracts import Contract, closed
from tests.rehearsal.clouds.clouds_support import KEY, Cloud

RUNPOD, LAMBDA, STRICT = Contract.runpod(), Contract.lambda_cloud(), Contract.lambda_cloud(strict=True)
LAUNCH = "/api/v1/instance-operations/launch"
EMULATED = [
    ("/v2/pods", "GET", 200),
    ("/v2/pods", "POST", 201),
    ("/v2/pods/{id}", "GET", 200),
    ("/v2/network-volumes", "GET", 200),
    ("/v2/network-volumes", "POST", 201),
    ("/v2/catalog/gpus", "GET", 200),
    ("/v2/catalog/cpus", "GET", 200),
    ("/v2/catalog/datacenters", "GET", 200),
    ("/v2/billing/pods", "GET", 200),
    ("/v2/billing/network-volumes", "GET", 200),
]


@pytest.mark.parametrize(("template", "method", "status"), EMULATED)
def test_the_files_own_examples_pass_the_judge(template: str, method: str, status: int) -> None:
    """The judge agrees with the vendor about the vendor's own examples."""
    assert RUNPOD.reply_errors(template, method, status, RUNPOD.example(template, method, status)) == []


def test_strangers_are_named_and_known_keys_are_not() -> None:
    """An unknown key is named, also when something else is wrong, and nothing that is known is."""
    assert RUNPOD.request_errors("/v2/pods", "POST", {"image": "u", "bogus": 1}) == [
        "$: 'name' is a required property",
        "$: additional properties 'bogus' not allowed",
    ]
    nested = RUNPOD.request_errors("/v2/pods", "POST", {"name": "n", "image": "i", "gpu": {"id": "x", "n": 1}})
    assert nested == ["$.gpu: additional properties 'n' not allowed"]


def test_lambdas_schemas_are_closed_for_requests_only() -> None:
    """The strict form refuses unknown keys everywhere; the vendor's own form lets them pass."""
    body = {"region_name": "a", "instance_type_name": "b", "ssh_key_names": ["k"]}
    assert STRICT.request_errors(LAUNCH, "POST", body) == []
    assert STRICT.request_errors(LAUNCH, "POST", {**body, "quantity": 1}) != []
    assert STRICT.request_errors(LAUNCH, "POST", {**body, "image": {"family": "f", "x": 1}}) != []
    assert LAMBDA.request_errors(LAUNCH, "POST", {**body, "quantity": 1}) == []


def test_closing_leaves_open_what_speaks_for_itself() -> None:
    """Schemas that say what else may be there, and parts of an allOf, are left as they are."""
    schema = {"a": {"properties": {"x": {}}, "additionalProperties": True}, "allOf": [{"properties": {"y": {}}}]}
    assert closed(schema) == schema
    assert closed({"properties": {"x": {}}}) == {"properties": {"x": {}}, "unevaluatedProperties": False}


def test_bad_replies_are_found() -> None:
    """A reply without a required key, a body where none belongs and a wrong error body are breaches."""
    pod = RUNPOD.example("/v2/pods/{id}", "GET", 200)
    del pod["ssh"]
    assert RUNPOD.reply_errors("/v2/pods/{id}", "GET", 200, pod) == ["$: 'ssh' is a required property"]
    assert RUNPOD.reply_errors("/v2/pods/{id}", "DELETE", 204, {}) == ["$: a 204 has no body"]
    assert RUNPOD.reply_errors("/v2/pods/{id}", "GET", 404, {"title": "x"}) != []
    assert RUNPOD.reply_errors("/v2/pods", "POST", 402, {"title": "x", "status": 402, "detail": "d"}) == []
    assert LAMBDA.reply_errors(LAUNCH, "POST", 200, {"data": {}}) != []


def test_the_emulators_replies_have_the_examples_keys(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """What the vendor's examples show is there in ours: catalogue, billing, and Lambda's instance."""
    stock = {"include": "AVAILABILITY", "product": "POD"}
    places = {"include": "GPU_AVAILABILITY,CPU_AVAILABILITY"}
    cloud.runpod.post("/pods", json=pod_body)
    cloud.runpod.post("/network-volumes", json={"name": "v", "size": 10, "dataCenter": "EU-RO-1"})
    cloud.advance(60)
    for path, params, key in (
        ("/catalog/gpus", stock, "gpus"),
        ("/catalog/cpus", stock, "cpus"),
        ("/catalog/datacenters", places, "dataCenters"),
        ("/billing/pods", {}, "records"),
        ("/billing/network-volumes", {}, "records"),
        ("/network-volumes", {}, "networkVolumes"),
    ):
        example = RUNPOD.example(f"/v2{path}", "GET", 200)
        ours = cloud.runpod.get(path, params=params).json()
        assert set(example) == set(ours)
        assert set(example[key][0]) <= set(ours[key][0])
    cloud.lambda_cloud.post("/ssh-keys", json={"name": "k", "public_key": KEY})
    cloud.lambda_cloud.post("/filesystems", json={"name": "v", "region": "us-east-1"})
    cloud.advance(20)
    launch = {
        "region_name": "us-east-1",
        "instance_type_name": "gpu_1x_a10",
        "ssh_key_names": ["k"],
        "file_system_names": ["v"],
        "name": "n",
        "tags": [{"key": "key1", "value": "v"}],
    }
    (identity,) = cloud.lambda_cloud.post("/instance-operations/launch", json=launch).json()["data"]["instance_ids"]
    cloud.advance(200)
    schema = LAMBDA.document["paths"]["/api/v1/instance-operations/terminate"]["post"]["responses"]["200"]
    examples = schema["content"]["application/json"]["schema"]["properties"]["data"]["examples"]
    example = examples[0]["terminated_instances"][0]
    assert set(example) == set(cloud.lambda_cloud.get(f"/instances/{identity}").json()["data"])


def test_a_breach_is_told_and_not_sent(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """A reply of ours that breaks the contract becomes a 500 that says so, and is remembered."""
    pod_id = cloud.runpod.post("/pods", json=pod_body).json()["id"]
    cloud.advance(10)
    cloud.state.context.records.pods[pod_id].cloud = "PRIVATE"
    reply = cloud.runpod.get(f"/pods/{pod_id}")
    assert (reply.status_code, "'PRIVATE' is not one of" in reply.json()["detail"]) == (500, True)
    assert len(cloud.state.breaches()) == 1
    cloud.state.breaches().clear()


def test_an_unknown_status_is_shown_once(cloud: Cloud, pod_body: dict[str, Any]) -> None:
    """The fault status-unknown shows a word that clients must not choke on."""
    pod_id = cloud.runpod.post("/pods", json=pod_body).json()["id"]
    cloud.advance(10)
    cloud.state.arm("status-unknown")
    assert cloud.runpod.get(f"/pods/{pod_id}").json()["status"] == "MIGRATING"
    assert cloud.runpod.get(f"/pods/{pod_id}").json()["status"] == "STARTING"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
GOOD = {
    "gpu": st.fixed_dictionaries({"id": st.sampled_from(["NVIDIA L40S", "x"])}, optional={"count": JSON}),
    "cpu": st.fixed_dictionaries({"id": st.sampled_from(["cpu3c", "x"]), "vcpuCount": st.integers(1, 64)}),
    "ports": st.lists(st.sampled_from(["22/tcp", "8888/http", "x", "22", "/"]), max_size=3),
    "mounts": st.sampled_from([{}, {"network": []}, {"network": [{"volumeId": "v", "path": "/w"}]}]) | JSON,
    "env": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3) | JSON,
    "dataCenterIds": st.lists(st.sampled_from(["EU-RO-1", "x"])) | JSON,
    "cloud": st.sampled_from(["SECURE", "COMMUNITY"]) | JSON,
    "globalNetworking": JSON,
    "disk": JSON,
    "args": JSON,
    "registry": JSON,
    "templateId": JSON,
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({"name": st.just("n"), "image": st.just("i")}, optional=GOOD) | JSON)
def test_no_create_makes_the_emulator_fail(cloud: Cloud, body: Any) -> None:
    """Whatever is sent, the answer is a created pod or a clear refusal, never a failure of the emulator."""
    cloud.advance(1)  # as many a minute as the API allows
    reply = cloud.runpod.post("/pods", json=body)
    assert reply.status_code in {201, 400, 404, 422}, reply.text
    assert cloud.state.breaches() == []


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {"region_name": st.just("us-east-1"), "instance_type_name": JSON, "ssh_key_names": JSON},
        optional={"tags": JSON, "image": JSON, "file_system_mounts": JSON, "name": JSON, "user_data": JSON},
    )
    | JSON
)
def test_no_launch_makes_the_emulator_fail(cloud: Cloud, body: Any) -> None:
    """The same for Lambda's launch."""
    cloud.advance(12)
    reply = cloud.lambda_cloud.post("/instance-operations/launch", json=body)
    assert reply.status_code in {200, 400, 404}, reply.text
    assert set(reply.json()) <= {"data", "error"}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {"name": st.just("n"), "imageName": st.just("i"), "gpuTypeId": st.just("NVIDIA L40S")},
        optional={
            "gpuCount": JSON,
            "terminateAfter": JSON,
            "ports": st.text(max_size=9),
            "env": JSON,
            "volumeInGb": JSON,
            "networkVolumeId": JSON,
            "bidPerGpu": JSON,
        },
    )
)
def test_no_mutation_makes_the_emulator_fail(cloud: Cloud, wanted: dict[str, Any]) -> None:
    """The same for GraphQL: data, or errors with a message."""
    query = "mutation M($input: PodFindAndDeployOnDemandInput) { podFindAndDeployOnDemand(input: $input) { id } }"
    reply = cloud.graphql(query, input=wanted)
    assert reply.status_code in {200, 400}
    assert "Traceback" not in reply.text
    if reply.json().get("errors") is None:
        assert reply.json()["data"]["podFindAndDeployOnDemand"]["id"]
    else:
        assert all(error["extensions"]["code"] in {"RUNPOD", "BAD_USER_INPUT"} for error in reply.json()["errors"])
