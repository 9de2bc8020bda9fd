"""What providers, hub and stores answer over HTTP, changed at random."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from orchestrator.words.errors import GpuplanError
from orchestrator.words.secret import Secret
from tests.fuzz.fuzzing import Attempt, changed_bytes, changed_json, changed_text, fuzzer, passing


def answering(chance: random.Random, good: dict[str, Any]) -> httpx.MockTransport:
    """A vendor that answers each path's beginning with a changed document, an odd status, or half a body."""

    def answer(request: httpx.Request) -> httpx.Response:
        known: Any = next((document for path, document in good.items() if request.url.path.startswith(path)), {})
        body = json.dumps(changed_json(chance, known)).encode()
        if chance.random() < 0.2:
            body = changed_bytes(chance, body)
        pause = chance.choice(("0", "-1", "²", "9" * 400, "Wed, 21 Oct 9999 07:28:00 GMT"))
        headers = {b"Retry-After": pause.encode()}
        if chance.random() < 0.1:
            headers[b"Content-Encoding"] = b"gzip"  # which it is not
        if chance.random() < 0.2:
            headers[b"Link"] = chance.choice(
                (b'<https://elsewhere/x>; rel="next"', b"<http://[>; rel=next", b"<x>; rel=next")
            )
        return httpx.Response(
            chance.choice((200, 200, 200, 201, 204, 400, 404, 429, 500)), content=body, headers=headers
        )

    return httpx.MockTransport(answer)


def ask_provider(chance: random.Random, name: str, good: dict[str, Any]) -> None:
    """One question to a provider's adapter."""
    from orchestrator.providers import open_provider
    from orchestrator.words.access import ProviderAccess

    access = ProviderAccess(
        api_key=Secret("key-7f3a"), transport=answering(chance, good), public_key="ssh-ed25519 AAAA x", owner="o" * 8,
        sleep=lambda _seconds: None,
    )  # fmt: skip
    provider = open_provider(name, access)
    ask = chance.choice(
        [
            lambda: provider.offers(gpus=chance.randrange(3), spot=chance.random() < 0.3),
            lambda: provider.machine("id"),
            provider.machines,
            provider.volumes,
            lambda: provider.billed(["id"]),
            lambda: provider.create_volume("gpuplan-v", 10, "EU-1"),
            lambda: provider.destroy("id"),
        ]
    )
    passing(GpuplanError, ask)


@fuzzer
def runpod(_folder: Path) -> Attempt:
    """RunPod's REST answers."""
    pod = {
        "id": "id",
        "name": "gpuplan-x",
        "status": "RUNNING",
        "costPerHr": 1.5,
        "ssh": {"host": "h", "port": 22, "username": "root"},
        "runtime": {"ports": [{"private": 22, "public": 1, "type": "tcp", "ip": "1.2.3.4"}]},
        "gpu": {"id": "g", "count": 1},
    }
    good = {
        "/v2/pods/": pod,
        "/v2/pods": [pod],
        "/v2/network-volumes": [{"id": "v", "name": "gpuplan-v", "size": 10}],
        "/v2/gpu-types": [{"id": "g", "memoryInGb": 80, "prices": {"secure": 1.5}}],
        "/v2/catalog": {"gpus": [pod]},
    }
    return lambda chance: ask_provider(chance, "runpod", good)


@fuzzer
def lambda_(_folder: Path) -> Attempt:
    """Lambda's answers."""
    instance = {
        "id": "id",
        "name": "gpuplan-x",
        "status": "active",
        "ip": "1.2.3.4",
        "private_ip": "10.0.0.1",
        "instance_type": {"name": "gpu_1x_a100"},
        "region": {"name": "us-1"},
    }
    kind = {
        "instance_type": {
            "name": "gpu_1x_a100",
            "price_cents_per_hour": 129,
            "description": "1x A100 (40 GB)",
            "specs": {"gpus": 1, "vcpus": 30, "memory_gib": 200, "storage_gib": 512},
        },
        "regions_with_capacity_available": [{"name": "us-1"}],
    }
    good = {
        "/api/v1/instances/": {"data": instance},
        "/api/v1/instances": {"data": [instance]},
        "/api/v1/instance-types": {"data": {"gpu_1x_a100": kind}},
        "/api/v1/file-systems": {
            "data": [{"id": "f", "name": "gpuplan-v", "bytes_used": 1, "region": {"name": "us-1"}}]
        },
        "/api/v1/filesystems": {"data": {"id": "f"}},
    }
    return lambda chance: ask_provider(chance, "lambda", good)


@fuzzer
def graphql(_folder: Path) -> Attempt:
    """RunPod's older answers."""
    from orchestrator.providers.runpod_graphql import RunPodGraphQL
    from orchestrator.words.access import ProviderAccess

    good = {
        "/graphql": {
            "data": {"gpuTypes": [{"id": "g", "lowestPrice": {"minimumBidPrice": 1.5, "stockStatus": "High"}}]}
        }
    }

    def attempt(chance: random.Random) -> None:
        access = ProviderAccess(
            api_key=Secret("key-7f3a"), transport=answering(chance, good), sleep=lambda _seconds: None
        )
        passing(GpuplanError, lambda: RunPodGraphQL(access).bids(1))

    return attempt


@fuzzer
def hub(_folder: Path) -> Attempt:
    """The model hub's answers."""
    from orchestrator.world.model_hub import Hub

    row = {"type": "file", "path": "model.safetensors", "size": 1, "lfs": {"oid": "5" * 64, "size": 5}}
    good = {"/api/models/a/b/revision": {"sha": "c0ffee"}, "/api/models/a/b/tree": [row, row]}

    def attempt(chance: random.Random) -> None:
        reader = Hub("https://hub.test", Secret("hf_token"), answering(chance, good))
        passing(GpuplanError, lambda: reader.files("a/b", reader.commit("a/b")))

    return attempt


@fuzzer
def gcs(_folder: Path) -> Attempt:
    """What an upload session of Google's store says it holds."""
    pytest.importorskip("google.cloud.storage")
    from orchestrator.storage import StoreAccess, open_store

    store = open_store("gs://bucket/prefix", StoreAccess(endpoint="http://127.0.0.1:9", project="p"))

    def attempt(chance: random.Random) -> None:
        held = (
            changed_text(chance, "bytes=0-1023")
            .encode("ascii", "replace")
            .replace(b"\n", b"")
            .replace(b"\r", b"")
            .replace(b"\0", b"")
        )
        reply = httpx.Response(308, headers={"Range": held.decode()})
        store._http = SimpleNamespace(request=lambda *_args, **_facts: reply)  # type: ignore[attr-defined]
        upload = SimpleNamespace(token="u", bytes=4096, key="k")
        passing(GpuplanError, lambda: store._stored(upload))  # type: ignore[attr-defined]

    return attempt
