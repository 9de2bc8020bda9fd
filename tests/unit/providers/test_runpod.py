"""RunPod by its own specification's examples."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar, cast

import httpx
import pytest

from orchestrator.providers.runpod import RunPod
from orchestrator.providers.runpod_end_bill import end_bill_script
from orchestrator.rehearsal.clouds.contracts import Contract
from orchestrator.words.errors import AccountRefused, Ambiguous, NoCapacity, ProviderUnavailable
from orchestrator.words.provider import Address, MachineStatus
from tests.unit.providers.vendor_replay import ACCESS, RUNPOD, Vendor, example, offer, problems, spec

POD = example("/v2/pods", "get")["pods"][0]
OURS = POD | {"name": "gpuplan-abcd1234-r1-day1-1-t1796126400"}
CENTRES = example("/v2/catalog/datacenters", "get")


def runpod(table: dict[str, Any]) -> tuple[RunPod, Vendor]:
    vendor = Vendor(table)
    return RunPod(replace(ACCESS, transport=vendor.transport)), vendor


def gpu(**changes: object) -> dict[str, object]:
    return example("/v2/catalog/gpus", "get")["gpus"][0] | changes


def test_the_catalogue_becomes_offers():
    """The example's GPU is one offer, priced for the whole machine, at the data centre that has it."""
    table = {"GET /catalog/gpus": {"gpus": [gpu()]}, "GET /catalog/datacenters": CENTRES}
    provider, vendor = runpod(table)
    expected = offer(gpus=2, price_hour=Decimal("0.88"), stock="HIGH", disk_gb_hour=Decimal("0.00013889"))
    assert [expected] == provider.offers(gpus=2, spot=False)
    asked = dict(vendor.requests[-1].url.params)
    assert asked == {"include": "AVAILABILITY", "product": "POD", "count": "2", "cloud": "SECURE"}


def test_form_factors_share_a_name_and_the_cheapest_is_first():
    """SXM and PCIe cards have one name; prices order them, stock breaks the tie."""
    rows = [
        gpu(id="NVIDIA A100-SXM4-80GB", memory=80, price={"secure": 1.79, "community": 1.39}),
        gpu(id="NVIDIA A100 80GB PCIe", memory=80, price={"secure": 1.69, "community": 1.19}),
        gpu(id="NVIDIA H200", memory=141, price={"secure": 4.59, "community": 0}, secure=False),
        gpu(id="NVIDIA H100 PCIe", memory=80, maxCount={"secure": 1, "community": 8}),
        gpu(id="AMD Instinct MI300X OAM", memory=192, manufacturer="AMD"),
    ]
    provider, _ = runpod({"GET /catalog/gpus": {"gpus": rows}, "GET /catalog/datacenters": CENTRES})
    found = provider.offers(gpus=4, spot=False)
    assert [("A100-80GB", Decimal("6.76")), ("A100-80GB", Decimal("7.16"))] == [(o.gpu, o.price_hour) for o in found]


def test_places_without_volumes_are_not_offered_and_sold_out_is_said():
    """A place must be able to hold the plan's volume; a type that is listed there without stock is not available."""
    centre = CENTRES["dataCenters"][0]
    bare = centre | {"id": "EU-XX-1", "networkVolumeTypes": []}
    sold_out = centre | {"id": "EU-RO-1"}
    table = {
        "GET /catalog/gpus": {"gpus": [gpu()]},
        "GET /catalog/datacenters": {"dataCenters": [centre, bare, sold_out]},
    }
    provider, _ = runpod(table)
    assert {o.place: o.available for o in provider.offers(gpus=1, spot=False)} == {"US-KS-2": True, "EU-RO-1": False}


def test_cpu_machines_are_sized_in_powers_of_two():
    """A flavour is offered with each number of vCPUs that is large enough, and created by flavour and number."""
    cpus = example("/v2/catalog/cpus", "get")
    provider, vendor = runpod(
        {"GET /catalog/cpus": cpus, "GET /catalog/datacenters": CENTRES, "POST /pods": (201, POD)}
    )
    found = provider.offers(gpus=0, spot=False)
    expected = [("cpu3c-2-4:8", Decimal("0.32")), ("cpu3c-2-4:16", Decimal("0.64")), ("cpu3c-2-4:32", Decimal("1.28"))]
    assert expected == [(o.type_id, o.price_hour) for o in found]
    assert {(o.most_disk_gb, o.disk_gb_hour) for o in found[:1]} == {(80, Decimal("0.00013889"))}
    provider.create(spec(offer=found[0]))
    (body,) = vendor.sent("POST", "/pods")
    assert body["cpu"] == {"id": "cpu3c-2-4", "vcpuCount": 8}
    assert "gpu" not in body
    assert problems(RUNPOD, "/v2/pods", "post", body) == []


def test_a_create_says_all_that_is_meant_and_nothing_else():
    """The body fits the schema: count, port 22, one data centre, the volume's path, and the public key as only env."""
    provider, vendor = runpod({"POST /pods": (201, example("/v2/pods", "post", "201"))})
    created = provider.create(spec(volume_id="vol1", volume_name="gpuplan-v", private_network=True, min_cuda="12.8"))
    (body,) = vendor.sent("POST", "/pods")
    assert created == "7h9k2m4n6p"
    assert Contract.runpod().request_errors("/v2/pods", "POST", body) == []
    assert body == {
        "name": "gpuplan-abcd1234-r1-day1-1-t1796126400",
        "image": "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404",
        "cloud": "SECURE",
        "disk": 50,
        "ports": ["22/tcp", "8888/http"],
        "env": {"PUBLIC_KEY": "ssh-ed25519 AAAA me"},
        "dataCenterIds": ["US-KS-2"],
        "gpu": {
            "id": "NVIDIA GeForce RTX 4090",
            "count": 1,
            "minCudaVersion": "12.8",
            "minRamPerGpu": 24,
            "minVcpuCountPerGpu": 4,
        },
        "mounts": {"network": [{"volumeId": "vol1", "path": "/workspace"}]},
        "globalNetworking": True,
    }


def test_a_schema_that_is_older_than_its_client_gets_what_it_knows():
    """The least memory and vCPUs are newer than the published schema: refused for them, the create goes without."""
    strange = (
        "Request validation failed.; $.gpu: additional properties 'minRamPerGpu', 'minVcpuCountPerGpu' not allowed"
    )
    answers = [(422, {"detail": strange}), (201, example("/v2/pods", "post", "201"))]
    provider, vendor = runpod({"POST /pods": answers})
    assert provider.create(spec(min_cuda="12.8")) == "7h9k2m4n6p"
    _, body = vendor.sent("POST", "/pods")
    assert body["gpu"] == {"id": "NVIDIA GeForce RTX 4090", "count": 1, "minCudaVersion": "12.8"}
    assert problems(RUNPOD, "/v2/pods", "post", body) == []


def test_the_log_of_a_start_is_read_from_its_stream():
    """Lines of events, and nothing that is not one; a refusal is no line."""
    stream = 'id: 1\ndata: {"source": "system", "line": "create container", "ts": "x"}\n\ndata: [1]\ndata: {"line'
    provider, _ = runpod({"GET /pods/p1/logs": (200, stream)})
    assert provider.last_words("p1") == ["create container"]
    assert provider.last_words("p2") == []


def test_a_create_without_an_id_is_ambiguous():
    """An answer that accepts but names nothing is looked up by name."""
    provider, _ = runpod({"POST /pods": (201, {"name": "x"})})
    with pytest.raises(Ambiguous):
        provider.create(spec())


def test_the_documented_refusals():
    """403 on a create bars the pool, 402 the account."""
    provider, _ = runpod({"POST /pods": [(403, {"detail": "pool"}), (402, {"detail": "insufficient balance"})]})
    with pytest.raises(NoCapacity):
        provider.create(spec())
    with pytest.raises(AccountRefused, match="insufficient balance"):
        provider.create(spec())


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, MachineStatus.READY),
        ({"ssh": {"proxy": POD["ssh"]["proxy"], "direct": None}, "runtime": None}, MachineStatus.BOOTING),
        ({"status": "PROVISIONING"}, MachineStatus.BOOTING),
        ({"status": "STARTING"}, MachineStatus.BOOTING),
        ({"status": "EXITED"}, MachineStatus.STOPPED),
        ({"status": "ERROR"}, MachineStatus.FAILED),
        ({"status": "HIBERNATING"}, MachineStatus.FAILED),
    ],
)
def test_status_in_our_words(changes: dict[str, object], status: MachineStatus):
    """RUNNING without an address is still booting; an unknown word is a failure; only READY has an address."""
    provider, _ = runpod({"GET /pods/7h9k2m4n6p": POD | changes})
    found = provider.machine("7h9k2m4n6p")
    assert found is not None
    assert status is found.status
    address = Address("195.26.233.3", 34446, "root") if status is MachineStatus.READY else None
    assert address == found.address


def test_the_example_pod_as_a_machine():
    """Place and private address come over; its own disk of 50 GB is in the price, of which the vendor's is not."""
    network = {"enabled": True, "ip": "10.65.1.42", "internalDns": "7h9k2m4n6p.runpod.internal"}
    provider, _ = runpod({"GET /pods/7h9k2m4n6p": POD | {"globalNetworking": network}})
    found = provider.machine("7h9k2m4n6p")
    assert found is not None
    assert ("10.65.1.42", Decimal("0.4469445"), "US-KS-2", "RUNNING") == (
        found.private_ip,
        found.price_hour,
        found.place,
        found.detail,
    )


def test_lists_hold_ours_that_live():
    """Other people's pods and terminated ones are left out; a terminated pod is gone."""
    table = {
        "GET /pods": {"pods": [POD, OURS, OURS | {"id": "old", "status": "TERMINATED"}]},
        "GET /pods/old": OURS | {"id": "old", "status": "TERMINATED"},
    }
    provider, _ = runpod(table)
    assert [m.id for m in provider.machines()] == ["7h9k2m4n6p"]
    assert provider.machine("old") is None
    assert provider.machine("unknown") is None


def test_an_answer_of_another_shape_may_pass():
    """A list that is not there is not an empty list: nothing is taken for gone."""
    provider, _ = runpod({"GET /pods": {"items": []}})
    with pytest.raises(ProviderUnavailable, match="pods"):
        provider.machines()


def test_ends_are_idempotent():
    """204 and 404 end a machine or a volume; a volume in use may pass."""
    provider, _ = runpod(
        {
            "DELETE /pods/a": (204, None),
            "DELETE /network-volumes/v": [(400, {"detail": "volume is attached"}), (204, None)],
        }
    )
    provider.destroy("a")
    provider.destroy("unknown")
    with pytest.raises(ProviderUnavailable, match="attached"):
        provider.destroy_volume("v")
    provider.destroy_volume("v")
    provider.destroy_volume("unknown")


def test_volumes_come_in_pages():
    """All pages are read; only ours are shown, with what they cost an hour."""
    row = example("/v2/network-volumes", "get")["networkVolumes"][0]
    pages = [
        {"networkVolumes": [row, row | {"name": "gpuplan-a"}], "pagination": {"hasNextPage": True, "nextCursor": "c"}},
        {"networkVolumes": [row | {"name": "gpuplan-b", "size": 1000}], "pagination": {"hasNextPage": False}},
    ]
    provider, vendor = runpod({"GET /network-volumes": pages})
    assert [(v.name, v.size_gb) for v in provider.volumes()] == [("gpuplan-a", 100), ("gpuplan-b", 1000)]
    assert [r.url.params.get("cursor") for r in vendor.requests] == [None, "c"]


def test_a_volume_is_created_in_its_place():
    """The request is the specification's, the id is its answer's."""
    provider, vendor = runpod({"POST /network-volumes": (201, example("/v2/network-volumes", "post", "201"))})
    assert provider.create_volume("gpuplan-v", 50, "US-KS-2") == "2q9m7x4c"
    (body,) = vendor.sent("POST", "/network-volumes")
    assert problems(RUNPOD, "/v2/network-volumes", "post", body) == []


def test_a_volume_beyond_a_terabyte_costs_less_by_the_gigabyte():
    """$0.07 a GB and month for the first 1000 GB, $0.05 for the rest."""
    provider, _ = runpod({})
    assert Decimal(70) / 720 == provider.volume_price_hour(1000)
    assert Decimal(120) / 720 == provider.volume_price_hour(2000)


def test_billing_adds_up_per_machine():
    """The buckets of each machine asked for are added; a machine that billing does not know is left out."""
    document = example("/v2/billing/pods", "get")
    document["records"] += [document["records"][0] | {"totalAmount": 1.66}, document["records"][0] | {"podId": "other"}]
    provider, _ = runpod({"GET /billing/pods": document})
    assert {"7h9k2m4n6p": Decimal("14.00")} == provider.billed(["7h9k2m4n6p", "fresh"])
    assert provider.billed([]) == {}


PRINTED = "SHA256:" + "p/+" * 14 + "p"


def told(*lines: str) -> str:
    """Lines of a container's log, as the API streams them."""
    facts = [{"ts": "2026-06-01T12:02:03Z", "source": "container", "line": line} for line in lines]
    return "".join(f"id: {fact['ts']}\ndata: {json.dumps(fact)}\n\n" for fact in facts)


KEYS_TOLD = told("Pod Started", "SSH host keys:", f"256 {PRINTED} root@pod1 (ED25519)")


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (KEYS_TOLD, True),
        (KEYS_TOLD.replace("p/+", "q/+"), False),
        (told("Pod Started", f"{PRINTED} of something"), None),
        (told(f"{PRINTED} of something") + KEYS_TOLD.replace("p/+", "q/+"), False),
        ("", None),
        ((404, {"detail": "pod not found"}), None),
        ((403, {"detail": "no"}), None),
        (httpx.ConnectError("down"), None),
    ],
)
def test_a_pods_log_vouches_for_its_host_key(answer: object, *, shown: bool | None):
    """As ssh-keygen prints it: this one, another one, or none, also where the log cannot be read."""
    provider, vendor = runpod({"GET /pods/pod1/logs": answer})
    assert provider.shows_host_key("pod1", PRINTED) is shown
    assert dict(vendor.requests[0].url.params) == {"source": "container", "tail": "1000"}


@pytest.mark.parametrize("printed", [True, False])
def test_a_log_without_an_end_is_not_heard_out(monkeypatch: pytest.MonkeyPatch, *, printed: bool):
    """The vendor's stream goes on: it is left once the key is there, when time is up, or when it is too much."""
    monkeypatch.setattr("orchestrator.providers.http.LISTEN_S", 0.2)
    heard = 0

    def stream() -> Iterator[bytes]:
        nonlocal heard
        yield KEYS_TOLD.encode() if printed else b""
        while True:
            time.sleep(0.01)
            heard += 1
            yield b": keep-alive\n\n"

    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=stream()))
    provider = RunPod(replace(ACCESS, transport=transport))
    assert provider.shows_host_key("pod1", PRINTED) is (True if printed else None)
    assert heard < (2 if printed else 50)
    monkeypatch.setattr("orchestrator.providers.http.LISTEN_S", 60.0)
    monkeypatch.setattr("orchestrator.providers.http.LINES_HEARD", 100)
    assert provider.shows_host_key("pod1", "SHA256:none") is (False if printed else None)


class Vendors(http.server.BaseHTTPRequestHandler):
    """RunPod as a machine sees it; `taken` is what was asked of it."""

    taken: ClassVar[list[tuple[str, str, str, bytes]]] = []
    graphql_status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.taken.append((self.command, self.path, self.headers["Authorization"], body))
        self.send_response(self.graphql_status if self.command == "POST" else 204)
        self.end_headers()
        if self.command == "POST":
            self.wfile.write(b'{"data": {"podTerminate": null}}')

    def do_DELETE(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("graphql_status", [200, 410])
def test_a_machine_ends_its_own_bill(graphql_status: int):
    """The script ends the pod with the pod's own key, by GraphQL or, when that is retired, by REST."""
    handler = cast("type[Vendors]", type("Handler", (Vendors,), {"taken": [], "graphql_status": graphql_status}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    env = {"PATH": os.environ["PATH"], "RUNPOD_POD_ID": "pod1", "RUNPOD_API_KEY": "podkey", "RUNPOD_API_BASE_URL": base}
    script = end_bill_script("https://unused.invalid/graphql", "https://unused.invalid/v2")
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, timeout=60, check=False)
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    method, path, key, body = handler.taken[0]
    assert (method, path, key) == ("POST", "/graphql", "Bearer podkey")
    assert json.loads(body) == {"query": 'mutation { podTerminate(input: {podId: "pod1"}) }'}
    rest = [("DELETE", "/v2/pods/pod1")] if graphql_status == 410 else []
    assert rest == [(m, p) for m, p, _, _ in handler.taken[1:]]


def test_a_machine_that_cannot_end_its_bill_says_so():
    """Without the pod's key the script fails with the reason."""
    done = subprocess.run(
        ["bash", "-c", RunPod(ACCESS).end_bill_script()],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert b"RUNPOD_POD_ID" in done.stderr
