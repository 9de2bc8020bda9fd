"""Whatever somebody else wrote, changed at random: it is understood, or refused by an error of ours; it never hangs.

As part of the tests a fixed number of changes, the same every time; `make fuzz MINUTES=10` goes on with others.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.words.errors import GpuplanError
from tests.fuzz import http_fuzzers  # noqa: F401 - importing it notes its fuzzers
from tests.fuzz.fuzzing import FUZZERS, Attempt, changed_bytes, changed_json, changed_text, fuzzer, passing

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))  # for each of them; 0: TRIES
SEED = int(os.environ.get("FUZZ_SEED", "1"))
TRIES = 60


def numbers() -> Iterator[int]:
    """As many as there are to be tries: the same ones in a test, other ones for the time that is given."""
    until = time.monotonic() + SECONDS
    number = 0
    while number < TRIES if not SECONDS else time.monotonic() < until:
        yield number
        number += 1


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
