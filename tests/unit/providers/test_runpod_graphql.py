"""Interruptible pods through the vendor's SDK, against a server that executes GraphQL as RunPod's would."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from graphql import build_schema, graphql_sync

from orchestrator.providers import ProviderAccess, runpod_graphql
from orchestrator.providers.runpod import RunPod
from orchestrator.providers.runpod_graphql import RunPodGraphQL
from orchestrator.words.errors import AccountRefused, Ambiguous, NoCapacity, ProviderUnavailable, Refused
from tests.unit.providers.vendor_replay import ACCESS, KEY, Vendor, example, offer, spec

SDL = """
enum CloudTypeEnum { ALL SECURE COMMUNITY }
input EnvironmentVariableInput { key: String!, value: String! }
input LowestPriceInput { gpuCount: Int!, secureCloud: Boolean, dataCenterId: String }
input PodRentInterruptableInput {
  bidPerGpu: Float!, cloudType: CloudTypeEnum, gpuCount: Int!, gpuTypeId: String!, name: String, imageName: String
  containerDiskInGb: Int, volumeInGb: Int, ports: String, env: [EnvironmentVariableInput], networkVolumeId: String
  volumeMountPath: String, dataCenterId: String, supportPublicIp: Boolean, startSsh: Boolean, globalNetwork: Boolean
  terminateAfter: String, minVcpuCount: Int, minMemoryInGb: Int, allowedCudaVersions: [String]
}
input PodFindAndDeployOnDemandInput {
  cloudType: CloudTypeEnum, gpuCount: Int!, gpuTypeId: String!, name: String, imageName: String, containerDiskInGb: Int
  volumeInGb: Int, ports: String, env: [EnvironmentVariableInput], networkVolumeId: String, volumeMountPath: String
  dataCenterId: String, supportPublicIp: Boolean, startSsh: Boolean, globalNetwork: Boolean, terminateAfter: String
  minVcpuCount: Int, minMemoryInGb: Int, allowedCudaVersions: [String]
}
type LowestPrice { minimumBidPrice: Float, stockStatus: String }
type GpuType { id: String!, lowestPrice(input: LowestPriceInput!): LowestPrice }
type Pod { id: String! }
type User { clientBalance: Float, currentSpendPerHr: Float }
type Query { gpuTypes: [GpuType!], myself: User }
type Mutation {
  podRentInterruptable(input: PodRentInterruptableInput!): Pod
  podFindAndDeployOnDemand(input: PodFindAndDeployOnDemandInput!): Pod
}
"""
BIDS = {"NVIDIA GeForce RTX 4090": 0.21, "NVIDIA H100 PCIe": None}


@dataclass
class Served:
    """The server's state: what it was asked for, and what it says instead of doing it."""

    url: str = ""
    sdl: str = SDL
    inputs: list[dict[str, Any]] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    pod: dict[str, str] | None = field(default_factory=lambda: {"id": "spot1"})
    instead: tuple[int, str] | None = None

    def answer(self, query: str) -> tuple[int, str]:
        self.documents.append(query)
        if self.instead:
            return self.instead
        result = graphql_sync(build_schema(self.sdl), query, self)
        errors = [{"message": e.message} for e in result.errors or []]
        status = 400 if errors and result.data is None else 200
        return status, json.dumps({"data": result.data} | ({"errors": errors} if errors else {}))

    def gpuTypes(self, _info: Any) -> list[Any]:
        def price(bid: float | None) -> Any:
            return lambda _info, **_: {"minimumBidPrice": bid, "stockStatus": "Low"}

        return [{"id": gpu, "lowestPrice": price(bid)} for gpu, bid in BIDS.items()]

    def myself(self, _info: Any) -> dict[str, float]:
        return {"clientBalance": 12.34, "currentSpendPerHr": 0.44}

    def podRentInterruptable(self, _info: Any, input: dict[str, Any]) -> Any:  # noqa: A002 - the schema's names
        self.inputs.append(input)
        return self.pod

    podFindAndDeployOnDemand = podRentInterruptable  # noqa: N815 - the schema's name


@pytest.fixture
def served() -> Iterator[Served]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = self.headers["Authorization"] == f"Bearer {KEY}"
            status, text = state.answer(body["query"]) if known else (401, "{}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/graphql"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["the SDK", "a transport"])
def access(request: pytest.FixtureRequest, served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderAccess]:
    """Yield the way to the server: through the vendor's SDK, or through a transport that was handed in."""
    monkeypatch.setenv("RUNPOD_API_BASE_URL", "")  # put back afterwards
    with httpx.HTTPTransport() as transport:
        handed_in = None if request.param == "the SDK" else transport
        yield replace(ACCESS, graphql_url=served.url, transport=handed_in)


@pytest.fixture
def client(access: ProviderAccess) -> RunPodGraphQL:
    return RunPodGraphQL(access)


SPOT = offer(spot=True, gpus=2, price_hour=Decimal("0.42"), stock="HIGH", disk_gb_hour=Decimal("0.00013889"))


def test_spot_offers_are_the_places_at_the_lowest_bid():
    """Only types with a bid are offered, priced for the whole machine."""
    rows = [example("/v2/catalog/gpus", "get")["gpus"][0], example("/v2/catalog/gpus", "get")["gpus"][0]]
    rows[1] |= {"id": "NVIDIA H100 PCIe", "memory": 80}
    vendor = Vendor(
        {
            "GET /catalog/gpus": {"gpus": rows},
            "GET /catalog/datacenters": example("/v2/catalog/datacenters", "get"),
            "POST /graphql": {"data": {"gpuTypes": [{"id": SPOT.type_id, "lowestPrice": {"minimumBidPrice": 0.21}}]}},
        }
    )
    access = replace(ACCESS, graphql_url=f"{ACCESS.base_url}/graphql", transport=vendor.transport)
    assert RunPod(access).offers(gpus=2, spot=True) == [SPOT]


def test_a_spot_create_keeps_every_character(served: Served, client: RunPodGraphQL):
    """Quotes, newlines and braces in values arrive as they are; the bid is per GPU, the deadline RunPod's too."""
    key = 'ssh-ed25519 AAAA it\'s "me" }) { id } \\ \n größe 🦙'
    asked = spec(offer=SPOT, public_key=key, volume_id="vol1", private_network=True)
    assert client.create_spot(asked, ["22/tcp", "8888/http"], "/workspace") == "spot1"
    assert served.inputs == [
        {
            "bidPerGpu": 0.21,
            "cloudType": "SECURE",
            "gpuCount": 2,
            "gpuTypeId": "NVIDIA GeForce RTX 4090",
            "name": asked.name,
            "imageName": asked.image,
            "containerDiskInGb": 50,
            "volumeInGb": 0,
            "ports": "22/tcp,8888/http",
            "env": [{"key": "PUBLIC_KEY", "value": key}],
            "networkVolumeId": "vol1",
            "volumeMountPath": "/workspace",
            "dataCenterId": "US-KS-2",
            "supportPublicIp": True,
            "startSsh": False,
            "minVcpuCount": 8,
            "minMemoryInGb": 48,
            "globalNetwork": True,
            "terminateAfter": "2026-12-01T12:00:00Z",
        }
    ]


def test_a_schema_without_the_fence_gets_none(served: Served, client: RunPodGraphQL):
    """Where the vendor's deadline is not known, the request was not run, and is sent without it."""
    served.sdl = SDL.replace("terminateAfter: String", "")
    assert client.create_spot(spec(offer=SPOT), ["22/tcp"], "/workspace") == "spot1"
    assert len(served.documents) == 2
    assert "terminateAfter" not in served.inputs[0]


def test_on_demand_with_a_deadline(served: Served, client: RunPodGraphQL):
    """The on-demand create carries RunPod's own deadline and no bid."""
    assert client.create_on_demand(spec(min_cuda="12.8"), ["22/tcp"], "/workspace") == "spot1"
    assert served.inputs[0]["terminateAfter"] == "2026-12-01T12:00:00Z"
    versions = served.inputs[0]["allowedCudaVersions"]
    assert {"12.8", "12.9", "13.0"} <= set(versions)
    assert "12.7" not in versions
    assert "bidPerGpu" not in served.inputs[0]


def errors(words: str) -> tuple[int, str]:
    return 200, json.dumps({"data": None, "errors": [{"message": words}]})


@pytest.mark.parametrize(
    ("instead", "expected"),
    [
        (errors("There are no longer any instances available with the requested specifications."), NoCapacity),
        (errors("podRentInterruptable has been removed"), Refused),
        (errors("Something went wrong. Please try again later or contact support."), Ambiguous),
        ((502, "<html>bad gateway</html>"), Ambiguous),
        ((200, "[1]"), Ambiguous),
        ((200, '{"data": {"podRentInterruptable": {}}}'), Ambiguous),
        ((200, '{"data": {"podRentInterruptable": null}}'), NoCapacity),
        ((401, "{}"), AccountRefused),
    ],
)
def test_what_a_spot_create_means(served: Served, client: RunPodGraphQL, instead: Any, expected: type[Exception]):
    """A refusal keeps the vendor's words; what may have made a pod is Ambiguous; nothing is sent twice."""
    served.instead = instead
    with pytest.raises(expected) as raised:
        client.create_spot(spec(offer=SPOT), ["22/tcp"], "/workspace")
    assert type(raised.value) is expected
    assert len(served.documents) == 1
    assert KEY not in str(raised.value)


def test_a_server_that_is_not_there(access: ProviderAccess):
    """A read may pass, a create is Ambiguous: the SDK does not say whether it was sent."""
    client = RunPodGraphQL(replace(access, graphql_url="http://127.0.0.1:9/graphql"))
    with pytest.raises(ProviderUnavailable):
        client.bids(1)
    with pytest.raises(Ambiguous):
        client.create_spot(spec(offer=SPOT), ["22/tcp"], "/workspace")


def test_no_bids_are_no_offers(served: Served, client: RunPodGraphQL):
    """When the price is no longer there, nothing is offered; a passing fault is not taken for that."""
    served.sdl = SDL.replace("minimumBidPrice: Float, ", "")
    assert client.bids(1) == {}
    served.instead = (410, "<html>gone</html>")
    assert client.bids(1) == {}
    served.instead = (503, "<html>")
    with pytest.raises(ProviderUnavailable):
        client.bids(1)


def test_the_sdk_leaves_no_log_handler(served: Served, client: RunPodGraphQL):
    """Importing the vendor's package does not change how this program logs."""
    before = list(logging.root.handlers)
    client.bids(1)
    assert before == list(logging.root.handlers)


def test_the_key_goes_to_the_vendor_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    """Without an address of its own the SDK is told the vendor's, at every call: its variable is not believed."""
    monkeypatch.setenv("RUNPOD_API_BASE_URL", "http://127.0.0.1:1")
    asked: list[str] = []

    def query(_text: str, api_key: str) -> dict[str, Any]:
        asked.append(os.environ["RUNPOD_API_BASE_URL"])
        return {"data": {"gpuTypes": []}}

    _, sdk_errors, network_errors = runpod_graphql._sdk()
    monkeypatch.setattr(runpod_graphql, "_sdk", lambda: (query, sdk_errors, network_errors))
    assert RunPodGraphQL(replace(ACCESS, graphql_url=None, transport=None)).bids(1) == {}
    assert asked == ["https://api.runpod.io"]
