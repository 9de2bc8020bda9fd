"""Damaged inputs end in a clear error or in the right file: never in a traceback, a hang or a wrong file."""

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dllama_glm.convert import main
from dllama_glm.formats.model_file import MappedModel, ModelFileError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.payload.converter.converter_files import GLM_MOE, Config, Tensors, glm_tensors, write_checkpoint
from tests.payload.converter.converter_reference import glm_file

SMALL: Config = GLM_MOE | {
    "hidden_size": 32, "intermediate_size": 32, "vocab_size": 32, "num_hidden_layers": 2, "n_routed_experts": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1,
}  # fmt: skip
TENSORS = glm_tensors(SMALL)
INDEX = "model.safetensors.index.json"
DTYPES = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}

numbers = st.one_of(
    st.integers(-2, 130), st.integers(-(1 << 64), 1 << 64), st.floats(allow_nan=True), st.sampled_from([0.5, 1.0, 1e6])
)
leaves = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8), st.sampled_from(["silu", "BF16", "F32"]))
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner))
Mutation = tuple[str, int, Any]
mutations = st.lists(
    st.tuples(st.sampled_from(["set", "delete", "add", "swap", "number"]), st.integers(0, 1 << 16), values),
    min_size=1,
    max_size=3,
)
RUNS = [
    pytest.param(100, id="100"),
    pytest.param(2000, id="2000", marks=[pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]),
]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def mutate(value: Any, changes: list[Mutation]) -> Any:
    """Change some places of a JSON value, in place."""
    for kind, number, new in changes:
        places = list(_places(value))
        if not places:
            return value
        container, key = places[number % len(places)]
        if kind == "set":
            container[key] = new
        elif kind == "number":
            container[key] = new if isinstance(new, int | float) else number
        elif kind == "delete":
            del container[key]
        elif kind == "add" and isinstance(container, dict):
            container[f"added{number}"] = new
        elif kind == "swap":
            other, other_key = places[(number * 7 + 3) % len(places)]
            container[key], other[other_key] = other[other_key], container[key]
    return value


def _mutated_config(folder: Path, changes: list[Mutation]) -> None:
    config = mutate(json.loads((folder / "config.json").read_text()), changes)
    (folder / "config.json").write_text(json.dumps(config))


def _mutated_index(folder: Path, changes: list[Mutation]) -> None:
    index = mutate(json.loads((folder / INDEX).read_text()), changes)
    (folder / INDEX).write_text(json.dumps(index))


def _mutated_header(folder: Path, changes: list[Mutation]) -> None:
    path = sorted(folder.glob("*.safetensors"))[changes[0][1] % 2]
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    text = json.dumps(mutate(json.loads(raw[8 : 8 + length]), changes)).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def _mutated_bytes(folder: Path, changes: list[Mutation]) -> None:
    """Overwrite, cut or lengthen any of the files, most often near its start."""
    for kind, number, _ in changes:
        files = sorted(folder.iterdir())
        path = files[number % len(files)]
        raw = bytearray(path.read_bytes())
        if kind in {"set", "add", "number"} and raw:
            raw[(number * 31) % min(len(raw), 4000)] = number % 251
        elif kind == "delete":
            del raw[len(raw) * (number % 97) // 97 :]
        else:
            raw += bytes([number % 256])
        path.write_bytes(raw)


def _loaded(folder: Path) -> Tensors:
    """All tensors of the damaged folder's indexed shards, through the official reader."""
    from safetensors import deserialize

    index = folder / INDEX
    names = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else None
    tensors: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        if names is None or file.name in names:
            for name, entry in deserialize(file.read_bytes()):
                if entry["dtype"] in DTYPES:
                    tensors[name] = np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def _check(damage: Callable[[Path, list[Mutation]], None], changes: list[Mutation]) -> None:
    """Damage a fresh folder, convert it, and hold the result against an independent reading of that folder."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as room:
        folder = write_checkpoint(Path(room) / "model", SMALL, TENSORS, shards=2)
        damage(folder, changes)
        output, said = Path(room) / "x.m", io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main([str(folder), "q40", "x", "--output", str(output)])
        assert code in {0, 3}
        assert "Traceback" not in said.getvalue()
        if code == 3:
            assert not output.exists()
            assert len(said.getvalue().splitlines()) <= 30
            return
        config = json.loads((folder / "config.json").read_text())
        assert output.read_bytes() == glm_file(_plain(config), _loaded(folder), "q40")


def _plain(config: Config) -> Config:
    """The same configuration without nulls, with the defaults that leave nothing open."""
    return {"tie_word_embeddings": False} | {key: value for key, value in config.items() if value is not None}


def _run(damage: Callable[[Path, list[Mutation]], None], examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(changes=mutations)
    def check(changes: list[Mutation]) -> None:
        _check(damage, changes)

    check()


@pytest.mark.parametrize("examples", RUNS)
@pytest.mark.parametrize("damage", [_mutated_config, _mutated_index, _mutated_header, _mutated_bytes])
def test_damaged_checkpoints(damage: Callable[[Path, list[Mutation]], None], examples: int):
    """Mutated configurations, indexes, shard headers and bytes: refused, or converted to what they then say."""
    _run(damage, examples // 2)


@pytest.mark.parametrize("examples", RUNS)
def test_damaged_model_files(examples: int, tmp_path: Path):
    """A mutated `.m` opens only if its header is consistent with its size; anything else is one ModelFileError."""
    with contextlib.redirect_stdout(io.StringIO()):
        folder = write_checkpoint(tmp_path / "model", SMALL, TENSORS)
        main([str(folder), "q40", "x", "--output", str(tmp_path / "x.m")])
    good = (tmp_path / "x.m").read_bytes()
    bad_file = tmp_path / "bad.m"

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.integers(0, 260), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4))
    def check(edits: list[tuple[int, bytes]]) -> None:
        bad = bytearray(good)
        for place, new in edits:
            bad[place : place + len(new)] = new
        bad_file.write_bytes(bad)
        try:
            model = MappedModel(bad_file)
        except ModelFileError as error:
            assert str(bad_file) in str(error)  # noqa: PT017 - opening may also succeed
            return
        assert max(slot.end for slot in model.slots.values()) == len(bad)
        model.close()

    check()
    shutil.rmtree(tmp_path / "model")
