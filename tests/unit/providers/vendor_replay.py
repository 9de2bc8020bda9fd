"""A vendor played back: the specification's own examples, request bodies checked against its schemas."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from orchestrator.providers import ProviderAccess
from orchestrator.words.provider import MachineSpec, Offer
from orchestrator.words.secret import Secret

KEY = "key-that-must-not-show"
BASE_URL = "http://vendor.test/api/v1"
ACCESS = ProviderAccess(
    api_key=Secret(KEY),
    base_url=BASE_URL,
    time_scale=0.001,
    public_key="ssh-ed25519 AAAA me",
    owner="abcd1234",
)
DEADLINE = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)

Answer = httpx.Response | Exception
Handler = Callable[[httpx.Request], Answer]


@cache
def contract(name: str) -> dict[str, Any]:
    """A vendor's OpenAPI file."""
    return json.loads((files("orchestrator.rehearsal") / "specs" / name).read_text(encoding="utf-8"))


RUNPOD, LAMBDA = "runpod-rest-v2-openapi.json", "lambda-cloud-v1.10.0-openapi.json"


def example(path: str, method: str, status: str = "200") -> Any:
    """The example reply of one RunPod operation."""
    content = contract(RUNPOD)["paths"][path][method]["responses"][status]["content"]["application/json"]
    (found,) = content["examples"].values()
    return json.loads(json.dumps(found["value"]))


def problems(name: str, path: str, method: str, body: Any) -> list[str]:
    """Why a request body is not what the specification asks for; also keys that it does not know."""
    document = contract(name)
    registry = Registry().with_resource("urn:api", Resource.from_contents(document, default_specification=DRAFT202012))
    pointer = path.replace("~", "~0").replace("/", "~1")
    reference = f"urn:api#/paths/{pointer}/{method}/requestBody/content/application~1json/schema"
    found = [e.message for e in Draft202012Validator({"$ref": reference}, registry=registry).iter_errors(body)]
    schema = document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    known = schema.get("properties")
    return found + [f"unknown key {k}" for k in body if known is not None and k not in known]


class Vendor:
    """Answers from a table "METHOD path" -> reply, or a list of replies one after the other; keeps the requests."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.table = table
        self.requests: list[httpx.Request] = []
        self.transport = httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path.removeprefix("/api/v1")
        reply = self.table.get(f"{request.method} {path}", (404, {"detail": "not found"}))
        if isinstance(reply, list):
            reply = reply.pop(0) if len(reply) > 1 else reply[0]
        if isinstance(reply, Exception):
            raise reply
        status, body, *headers = reply if isinstance(reply, tuple) else (200, reply)
        extra = headers[0] if headers else {}
        if isinstance(body, str):
            return httpx.Response(status, text=body, headers=extra)
        return httpx.Response(status, json=body, headers=extra) if body is not None else httpx.Response(status)

    def sent(self, method: str, path: str) -> list[Any]:
        """The bodies sent to one operation."""
        found = [r for r in self.requests if r.method == method and r.url.path == f"/api/v1{path}"]
        return [json.loads(r.content) if r.content else None for r in found]


def offer(**changes: Any) -> Offer:
    """An offer of one RTX 4090 at one place."""
    values: dict[str, Any] = {
        "provider": "runpod",
        "type_id": "NVIDIA GeForce RTX 4090",
        "gpu": "RTX-4090",
        "gpus": 1,
        "memory_gb": 24,
        "price_hour": Decimal("0.44"),
        "place": "US-KS-2",
    }
    return Offer(**(values | changes))


def spec(**changes: Any) -> MachineSpec:
    """A machine to create."""
    values: dict[str, Any] = {
        "name": "gpuplan-abcd1234-r1-day1-1-t1796126400",
        "offer": offer(),
        "image": "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404",
        "disk_gb": 50,
        "ports": ("8888/http",),
        "public_key": "ssh-ed25519 AAAA me",
        "deadline": DEADLINE,
    }
    return MachineSpec(**(values | changes))
