"""Whatever somebody else wrote, changed at random: it is understood, or refused by an error of ours; it never hangs.

As part of the tests a fixed number of changes, the same every time; `make fuzz MINUTES=10` goes on with others.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from orchestrator.words.errors import GpuplanError
from orchestrator.words.secret import Secret
from tests.fuzz.fuzzing import changed_bytes, changed_json, changed_text

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))  # for each of them; 0: TRIES
SEED = int(os.environ.get("FUZZ_SEED", "1"))
TRIES = 60
Attempt = Callable[[random.Random], None]
FUZZERS: dict[str, Callable[[Path], Attempt]] = {}


def fuzzer(make: Callable[[Path], Attempt]) -> Callable[[Path], Attempt]:
    """Note a fuzzer under its name: given a folder, it gives one attempt."""
    FUZZERS[make.__name__] = make
    return make


def numbers() -> Iterator[int]:
    """As many as there are to be tries: the same ones in a test, other ones for the time that is given."""
    until = time.monotonic() + SECONDS
    number = 0
    while number < TRIES if not SECONDS else time.monotonic() < until:
        yield number
        number += 1


def passing(error: type[Exception] | tuple[type[Exception], ...], call: Callable[[], object]) -> None:
    """Call, and let errors of that kind pass."""
    try:
        call()
    except error:
        return


@fuzzer
def yaml(folder: Path) -> Attempt:
    """A plan's phases and settings."""
    from orchestrator.config import load_plan

    good = [
        (ROOT / "configs/example.yaml").read_text(),
        *(f.read_text() for f in sorted((ROOT / "phases").glob("d*.yaml"))),
    ]
    settings = (ROOT / "configs/default.yaml").read_text()

    def attempt(chance: random.Random) -> None:
        (folder / "one.yaml").write_text(changed_text(chance, chance.choice(good)))
        (folder / "gpuplan.yaml").write_text(changed_text(chance, settings) if chance.random() < 0.3 else "")
        passing(GpuplanError, lambda: load_plan(folder, environ={}))

    return attempt


@fuzzer
def notes(folder: Path) -> Attempt:
    """What a plan says of its claims, down to the computed sentences."""
    from orchestrator.config import load_plan
    from orchestrator.plan import preview, resolve
    from orchestrator.plan.preview import Market

    good = (ROOT / "configs/plan-notes.yaml").read_text()
    (folder / "one.yaml").write_text("name: one\nsteps: [{name: a, run: 'true'}]\n")

    def attempt(chance: random.Random) -> None:
        (folder / "plan-notes.yaml").write_text(changed_text(chance, good))

        def show() -> None:
            plan = load_plan(folder, environ={})
            preview(plan, resolve(plan, ("all",)), Market())

        passing(GpuplanError, show)

    return attempt


@fuzzer
def replies(_folder: Path) -> Attempt:
    """What an agent answers, to everything that is asked."""
    from tests.transport.agent_operations import HONEST, OPERATIONS, agent_that_says

    def attempt(chance: random.Random) -> None:
        op = chance.choice(list(OPERATIONS))
        *lines, last = HONEST[op]
        said = [json.dumps(changed_json(chance, line)).encode() for line in [*lines, {"ok": True, **last}]]
        said = [changed_bytes(chance, line) if chance.random() < 0.3 else line for line in said]
        passing(GpuplanError, lambda: OPERATIONS[op](agent_that_says(*said)))

    return attempt


@fuzzer
def index(_folder: Path) -> Attempt:
    """The index of a checkpoint on the machine."""
    from orchestrator.engine import hub_check

    good = json.loads((ROOT / "tests/golden/llama/model.safetensors.index.json").read_text())

    def attempt(chance: random.Random) -> None:
        text = changed_bytes(chance, json.dumps(changed_json(chance, good)).encode())
        passing(GpuplanError, lambda: hub_check._shards("f", text))

    return attempt


@fuzzer
def record(_folder: Path) -> Attempt:
    """A done-record on the volume."""
    from orchestrator.engine import records

    good = {
        "step": "p/s", "key": "k", "run": "r", "at": 1.5, "files": [{"path": "a", "bytes": 1}], "log": "text",
        "metrics": {"x": 1.5}, "measured_on": "a CPU",
    }  # fmt: skip

    def attempt(chance: random.Random) -> None:
        records.parse(changed_bytes(chance, json.dumps(changed_json(chance, good)).encode()).decode("utf-8", "replace"))

    return attempt


@fuzzer
def safetensors(folder: Path) -> Attempt:
    """The header and bytes of a shard."""
    from dllama_glm.checkpoint.errors import CheckpointError
    from dllama_glm.checkpoint.shard import read_shard

    good = (ROOT / "tests/golden/llama3-tied/model.safetensors").read_bytes()
    header = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])

    def attempt(chance: random.Random) -> None:
        text = json.dumps(changed_json(chance, header)).encode()
        data = (
            len(text).to_bytes(8, "little") + text + good[-2000:]
            if chance.random() < 0.5
            else changed_bytes(chance, good)
        )
        (folder / "model.safetensors").write_bytes(data)
        passing(CheckpointError, lambda: read_shard(folder / "model.safetensors"))

    return attempt


@fuzzer
def config(folder: Path) -> Attempt:
    """A checkpoint's config.json, of every family."""
    from dllama_glm.checkpoint.errors import CheckpointError
    from dllama_glm.checkpoint.folder import read_folder

    good = [json.loads(file.read_text()) for file in sorted((ROOT / "tests").glob("*/*/config.json"))]
    (folder / "model.safetensors").write_bytes((ROOT / "tests/golden/llama3-tied/model.safetensors").read_bytes())

    def attempt(chance: random.Random) -> None:
        (folder / "config.json").write_bytes(json.dumps(changed_json(chance, chance.choice(good))).encode())
        passing(CheckpointError, lambda: read_folder(folder))

    return attempt


@fuzzer
def m_file(folder: Path) -> Attempt:
    """A model in the runtime's own form."""
    import contextlib
    import io

    from dllama_glm.convert import main
    from dllama_glm.formats.model_file import MappedModel, ModelFileError

    with contextlib.redirect_stdout(io.StringIO()):
        main([str(ROOT / "tests/golden/llama3-tied"), "q40", "x", "--output", str(folder / "x.m")])
    good = (folder / "x.m").read_bytes()

    def attempt(chance: random.Random) -> None:
        (folder / "bad.m").write_bytes(changed_bytes(chance, good))
        passing(ModelFileError, lambda: MappedModel(folder / "bad.m").close())

    return attempt


@fuzzer
def t_file(folder: Path) -> Attempt:
    """A tokenizer in the runtime's own form."""
    from dllama_glm.formats import tokenizer_file
    from dllama_glm.tokenizer.build import convert
    from dllama_glm.tokenizer.folder import read_folder

    content, _ = convert(read_folder(ROOT / "tests/golden/tokenizer-llama3"))
    good = tokenizer_file.to_bytes(content)

    def attempt(chance: random.Random) -> None:
        passing(tokenizer_file.TokenizerError, lambda: tokenizer_file.from_bytes(changed_bytes(chance, good)))

    return attempt


@fuzzer
def sentencepiece(folder: Path) -> Attempt:
    """A tokenizer.model."""
    from dllama_glm.tokenizer.sentencepiece_proto import ProtoError, parse

    def piece(text: bytes, kind: int) -> bytes:
        body = b"\x0a" + bytes([len(text)]) + text + b"\x15\x00\x00\x80\xbf" + b"\x18" + bytes([kind])
        return b"\x0a" + bytes([len(body)]) + body

    good = (
        piece(b"<unk>", 2)
        + piece(b"<s>", 3)
        + piece(b"</s>", 3)
        + b"".join(piece(bytes([c]), 1) for c in range(97, 123))
    )

    def attempt(chance: random.Random) -> None:
        passing(ProtoError, lambda: parse(changed_bytes(chance, good)))

    return attempt


@fuzzer
def tokenizer_json(folder: Path) -> Attempt:
    """A tokenizer.json and its configuration."""
    from dllama_glm.formats.tokenizer_file import TokenizerError
    from dllama_glm.tokenizer.build import convert
    from dllama_glm.tokenizer.folder import read_folder

    source = ROOT / "tests/golden/tokenizer-llama3"
    good = {
        name: json.loads((source / name).read_text())
        for name in ("tokenizer.json", "tokenizer_config.json", "config.json")
    }

    def attempt(chance: random.Random) -> None:
        for name, document in good.items():
            (folder / name).write_text(
                json.dumps(changed_json(chance, document) if chance.random() < 0.5 else document)
            )
        passing(TokenizerError, lambda: convert(read_folder(folder), extended=chance.random() < 0.5))

    return attempt


@fuzzer
def template(_folder: Path) -> Attempt:
    """A chat template, which is a program."""
    from dllama_glm.formats.tokenizer_file import TokenizerError
    from dllama_glm.tokenizer.chat import render

    good = (ROOT / "tests/models/PrimeIntellect/INTELLECT-3/chat_template.jinja").read_text()
    messages = [{"role": "user", "content": "hello"}]

    def attempt(chance: random.Random) -> None:
        text = changed_text(chance, good)
        passing(TokenizerError, lambda: render(text, messages, {"add_generation_prompt": True}))

    return attempt


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
        access = ProviderAccess(api_key=Secret("key-7f3a"), transport=answering(chance, good))
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


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", FUZZERS)
def test_what_others_wrote_is_understood_or_refused(name: str, tmp_path: Path):
    """Each kind of foreign input, changed: nothing but errors of ours. A failure names the seed that shows it again."""
    attempt = FUZZERS[name](tmp_path)
    tried = 0
    for number in numbers():
        seed = f"{SEED}:{name}:{number}"
        try:
            attempt(random.Random(seed))
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        tried += 1
    assert tried
