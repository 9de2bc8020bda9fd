"""Byte identity with upstream on the golden checkpoints, and with the specification on GLM."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.payload.converter.converter_files import (
    GLM,
    GLM_MOE,
    GOLDEN,
    MODELS,
    Config,
    Tensors,
    convert,
    glm_tensors,
    write_checkpoint,
)
from tests.payload.converter.converter_reference import glm_file

KINDS = ("q40", "q80", "f16", "f32")
LAYERS = re.compile(r"^model\.layers\.(\d+)\.")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["llama", "llama3-tied", "mistral", "qwen3", "qwen3_moe"])
def test_golden_checkpoints_convert_to_upstreams_bytes(name: str, kind: str, tmp_path: Path):
    """Size and sha256 of the output are those of upstream's converter."""
    expected = json.loads((GOLDEN / name / "expected.json").read_text())["m"][kind]
    output = convert(GOLDEN / name, kind, tmp_path / "x.m")
    assert len(output) == expected["bytes"]
    assert hashlib.sha256(output).hexdigest() == expected["sha256"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("config", "change"),
    [
        (GLM, {}),
        (GLM, {"attention_bias": False, "rms_norm_eps": 1.5625e-07}),
        (GLM_MOE, {}),
        (GLM_MOE, {"use_qk_norm": True, "attention_bias": False, "n_group": 2, "topk_group": 1}),
        (GLM_MOE, {"n_shared_experts": 2, "first_k_dense_replace": 2, "routed_scaling_factor": 2.5}),
        (GLM_MOE, {"first_k_dense_replace": 0, "norm_topk_prob": False, "rope_theta": 10000.5, "rms_norm_eps": 1e-6}),
    ],
)
def test_glm_converts_to_what_the_specification_says(config: Config, change: Config, kind: str, tmp_path: Path):
    """Header and tensors equal an independent writing of docs/format.md, for every switch of the architecture."""
    config = config | change
    tensors = glm_tensors(config)
    folder = write_checkpoint(tmp_path / "model", config, tensors, shards=3)
    assert convert(folder, kind, tmp_path / "x.m") == glm_file(config, tensors, kind)


@pytest.mark.parametrize("repo", ["zai-org/GLM-4.5-Air-Base", "PrimeIntellect/INTELLECT-3"])
def test_trained_models_convert_to_what_the_specification_says(repo: str, tmp_path: Path):
    """The rehearsal's models, whose layers straddle shards and of which one has a prediction layer."""
    config = json.loads((MODELS / repo / "config.json").read_text())
    tensors = {name: values for name, values in _load(MODELS / repo).items() if _is_main(name, config)}
    assert convert(MODELS / repo, "q40", tmp_path / "x.m") == glm_file(config, tensors, "q40")


def _is_main(name: str, config: Config) -> bool:
    layer = LAYERS.match(name)
    return layer is None or int(layer[1]) < int(config["num_hidden_layers"])


def _load(folder: Path) -> Tensors:
    """All tensors through the official reader."""
    from safetensors import deserialize

    kinds = {"BF16": np.uint16, "F32": np.float32}
    tensors: Tensors = {}
    for file in folder.glob("*.safetensors"):
        for name, entry in deserialize(file.read_bytes()):
            tensors[name] = np.frombuffer(entry["data"], kinds[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def test_shard_order_does_not_matter(tmp_path: Path):
    """Tensors in reverse order over several shards give the same bytes as in one file."""
    tensors = glm_tensors(GLM_MOE)
    turned: dict[str, Any] = dict(reversed(tensors.items()))
    one = convert(write_checkpoint(tmp_path / "one", GLM_MOE, tensors), "q40", tmp_path / "one.m")
    many = convert(write_checkpoint(tmp_path / "many", GLM_MOE, turned, shards=5), "q40", tmp_path / "many.m")
    assert one == many


@pytest.mark.parametrize("config", [GLM, GLM_MOE])
def test_new_rotary_keys_give_the_same_bytes(config: Config, tmp_path: Path):
    """rope_parameters (transformers 5) and the top-level keys (4.5x) convert alike."""
    tensors = glm_tensors(config)
    old = write_checkpoint(tmp_path / "old", config, tensors)
    moved = {key: value for key, value in config.items() if not key.startswith(("rope_", "partial_"))}
    moved["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": config["rope_theta"],
        "partial_rotary_factor": config["partial_rotary_factor"],
    }
    new = write_checkpoint(tmp_path / "new", moved, tensors)
    assert convert(old, "q40", tmp_path / "old.m") == convert(new, "q40", tmp_path / "new.m")


def test_new_form_of_llama_scaling_gives_upstreams_bytes(tmp_path: Path):
    """Llama 3's scaling inside rope_parameters converts to the same file as the old form."""
    source = GOLDEN / "llama3-tied"
    config = json.loads((source / "config.json").read_text())
    config["rope_parameters"] = config.pop("rope_scaling") | {"rope_theta": config.pop("rope_theta")}
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").symlink_to(source / "model.safetensors")
    expected = json.loads((source / "expected.json").read_text())["m"]["q40"]["sha256"]
    assert hashlib.sha256(convert(folder, "q40", tmp_path / "x.m")).hexdigest() == expected


def test_fused_experts_give_the_same_bytes(tmp_path: Path):
    """Experts stored as one tensor a layer (gate rows first) convert like single ones."""
    tensors = glm_tensors(GLM_MOE)
    fused = {name: values for name, values in tensors.items() if ".mlp.experts." not in name}
    for layer in (1, 2):
        at = f"model.layers.{layer}.mlp.experts."
        gates, ups, downs = (
            [tensors[f"{at}{expert}.{part}_proj.weight"] for expert in range(4)] for part in ("gate", "up", "down")
        )
        fused[f"{at}gate_up_proj"] = np.stack([np.concatenate(pair) for pair in zip(gates, ups, strict=True)])
        fused[f"{at}down_proj"] = np.stack(downs)
    plain = convert(write_checkpoint(tmp_path / "plain", GLM_MOE, tensors), "q40", tmp_path / "plain.m")
    assert convert(write_checkpoint(tmp_path / "fused", GLM_MOE, fused), "q40", tmp_path / "fused.m") == plain


@pytest.mark.parametrize("said", [0, 1, None])
@pytest.mark.parametrize("there", ["none", "with embedding", "without embedding"])
def test_prediction_layers_are_skipped_by_number(said: int | None, there: str, tmp_path: Path):
    """Whatever config.json says of them and whether they are there or not, the output is that of the plain model."""
    tensors = glm_tensors(GLM_MOE)
    extra: dict[str, Any] = {}
    if there != "none":
        at = f"model.layers.{GLM_MOE['num_hidden_layers']}."
        extra = {
            f"{at}{name.split('.', 3)[3]}": values
            for name, values in tensors.items()
            if name.startswith("model.layers.2.")
        }
        extra[f"{at}eh_proj.weight"] = np.zeros((64, 128), np.uint16)
        if there == "with embedding":
            extra[f"{at}embed_tokens.weight"] = tensors["model.embed_tokens.weight"]
    config = GLM_MOE | {"num_nextn_predict_layers": said}
    folder = write_checkpoint(tmp_path / "model", config, tensors | extra, shards=2)
    assert convert(folder, "q40", tmp_path / "x.m") == glm_file(GLM_MOE, tensors, "q40")


def test_a_skipped_prediction_layer_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A note names the layer that was left out."""
    convert(MODELS / "zai-org" / "GLM-4.5-Air-Base", "q40", tmp_path / "x.m")
    assert "left out the next-token prediction layer 4" in capsys.readouterr().out


def test_source_types_may_be_mixed(tmp_path: Path):
    """F32, F16 and BF16 tensors in one checkpoint, the F32 router included, are each read for what they are."""
    tensors = glm_tensors(GLM_MOE)
    random = np.random.default_rng(5)
    for number, name in enumerate(tensors):
        if number % 3:
            kind = np.float16 if number % 3 == 1 else np.float32
            tensors[name] = random.standard_normal(tensors[name].shape).astype(kind)
    folder = write_checkpoint(tmp_path / "model", GLM_MOE, tensors)
    for kind_name in KINDS:
        assert convert(folder, kind_name, tmp_path / "x.m") == glm_file(GLM_MOE, tensors, kind_name)


def test_values_at_odd_bytes_are_read(tmp_path: Path):
    """A tensor behind one of an odd number of bytes is not aligned, and still read right."""
    tensors = glm_tensors(GLM)
    folder = write_checkpoint(tmp_path / "model", GLM, tensors)
    raw = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    (folder / "model.safetensors").write_bytes(
        (length + 1).to_bytes(8, "little") + raw[8 : 8 + length] + b" " + raw[8 + length :]
    )
    assert convert(folder, "q40", tmp_path / "x.m") == glm_file(GLM, tensors, "q40")


def test_tied_glm_writes_the_embedding_twice(tmp_path: Path):
    """With tied embeddings the output matrix is the embedding in the weights' type."""
    config = GLM | {"tie_word_embeddings": True}
    tensors = glm_tensors(config)
    del tensors["lm_head.weight"]
    folder = write_checkpoint(tmp_path / "model", config, tensors)
    assert convert(folder, "q40", tmp_path / "x.m") == glm_file(config, tensors, "q40")
