"""What is refused, before anything is written, naming file and key."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dllama_glm.checkpoint.config import read_config
from dllama_glm.checkpoint.errors import CheckpointError
from dllama_glm.convert import main
from dllama_glm.convert.plan import check_output, make_plan
from dllama_glm.formats.float_types import FloatType
from dllama_glm.formats.model_header import header_from_pairs
from dllama_glm.formats.model_keys import ModelFileError

from tests.payload.converter.converter_files import (
    GLM,
    GLM_MOE,
    GOLDEN,
    PAYLOAD,
    Config,
    bf16,
    glm_tensors,
    run_converter,
    shard_bytes,
    write_checkpoint,
)

INDEX = "model.safetensors.index.json"


def problems(folder: Path, kind: FloatType = FloatType.Q40) -> tuple[str, ...]:
    """All problems that the plan of this folder shows; empty if it can be converted."""
    try:
        make_plan(folder, kind)
    except CheckpointError as error:
        return error.problems
    return ()


def _without(config: Config, *keys: str) -> Config:
    return {key: value for key, value in config.items() if key not in keys}


def _golden(name: str) -> Config:
    config: Config = json.loads((GOLDEN / name / "config.json").read_text())
    return config


ROPE = {"rope_type": "default", "rope_theta": 1000000, "partial_rotary_factor": 0.5}
CASES: list[tuple[Config, list[str]]] = [
    (_without(GLM_MOE, "rope_theta"), ["rope_theta is missing: neither at the top nor in rope_parameters"]),
    (_without(GLM_MOE, "partial_rotary_factor"), ["partial_rotary_factor is missing"]),
    (_without(GLM_MOE, "rms_norm_eps"), ["rms_norm_eps is missing"]),
    (_without(GLM_MOE, "head_dim"), ["head_dim is missing"]),
    (_without(GLM_MOE, "use_qk_norm"), ["use_qk_norm is missing"]),
    (_without(GLM_MOE, "attention_bias"), ["attention_bias is missing"]),
    (_without(GLM_MOE, "routed_scaling_factor"), ["routed_scaling_factor is missing"]),
    (_without(GLM_MOE, "hidden_act"), ["hidden_act is None"]),
    (
        GLM_MOE | {"rope_parameters": ROPE | {"rope_theta": 10000}},
        ["rope_theta is 1000000, but rope_parameters.rope_theta is 10000"],
    ),
    (
        GLM_MOE | {"rope_parameters": ROPE | {"partial_rotary_factor": 1.0}},
        ["partial_rotary_factor is 0.5, but rope_parameters.partial_rotary_factor is 1.0"],
    ),
    (GLM_MOE | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, ["rope_type is 'yarn'"]),
    (GLM_MOE | {"rope_parameters": {"mrope_section": [1]}}, ["rope_parameters has the unknown key 'mrope_section'"]),
    (GLM_MOE | {"scoring_func": "softmax"}, ["scoring_func is 'softmax'"]),
    (GLM_MOE | {"quantization_config": {"quant_method": "fp8"}}, ["quantization_config is", "in BF16"]),
    (GLM_MOE | {"swiglu_limit": 7.0}, ["the key 'swiglu_limit' is unknown for glm4_moe", "--ignore-key swiglu_limit"]),
    (GLM_MOE | {"n_group": 3}, ["keeps 1 of 3 groups of 4 experts"]),
    (GLM_MOE | {"n_group": 4}, ["chooses 2 experts out of 1 groups of 1, which is not possible"]),
    (GLM_MOE | {"n_group": 2, "num_experts_per_tok": 3}, ["chooses 3 experts out of 1 groups of 2"]),
    (GLM_MOE | {"num_attention_heads": 3}, ["3 heads, which 2 key-value heads cannot share"]),
    (GLM_MOE | {"num_hidden_layers": "3"}, ["num_hidden_layers is '3', not a whole number"]),
    (GLM_MOE | {"num_hidden_layers": True}, ["num_hidden_layers is True, not a whole number"]),
    (GLM_MOE | {"num_experts": 8}, ["n_routed_experts is 4, but num_experts, which means the same, is 8"]),
    (GLM | {"hidden_size": 48, "intermediate_size": 96}, ["stores Q40 blocks of 32, but dim is 48"]),
    ({"model_type": "qwen2"}, ["model_type qwen2 has biases on q, k and v and no norms"]),
    ({"model_type": "mamba"}, ["model_type is 'mamba'; known: llama, mistral"]),
    ({}, ["model_type is None"]),
    (_without(_golden("llama"), "rope_theta"), ["rope_theta is missing"]),
    (_without(_golden("llama"), "rms_norm_eps"), ["rms_norm_eps is missing"]),
    (_golden("llama") | {"rms_norm_eps": 2e-5}, ["rms_norm_eps is 2e-05"]),
    (_golden("llama") | {"attention_bias": True}, ["attention_bias is True"]),
    (_golden("llama") | {"rope_theta": 10000.5}, ["rope_theta is 10000.5"]),
    (_without(_golden("qwen3"), "head_dim"), ["head_dim is missing"]),
    (_golden("qwen3") | {"use_sliding_window": True}, ["use_sliding_window is True"]),
    (_golden("qwen3") | {"layer_types": ["sliding_attention"]}, ["layer_types names layers other than full_attention"]),
    (_golden("qwen3_moe") | {"norm_topk_prob": False}, ["norm_topk_prob is not true"]),
    (_golden("qwen3_moe") | {"mlp_only_layers": [0]}, ["mlp_only_layers is [0]"]),
]


@pytest.mark.parametrize(("config", "words"), CASES, ids=[words[0][:50] for _, words in CASES])
def test_configurations_that_are_not_understood_are_refused(config: Config, words: list[str], tmp_path: Path):
    """Missing, disagreeing, unknown or impossible keys: one sentence with config.json and the key."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = [text for text in problems(tmp_path) if text.startswith("config.json: ")]
    assert any(all(word in text for word in words) for text in found), found


def test_an_unknown_key_may_be_passed_over(tmp_path: Path):
    """--ignore-key NAME converts as if the key were not there, and only that key."""
    folder = write_checkpoint(tmp_path / "model", GLM_MOE | {"novelty": 1}, glm_tensors(GLM_MOE))
    words = [str(folder), "q40", "x", "--output", str(tmp_path / "x.m")]
    assert main(words) == 3
    assert main([*words, "--ignore-key", "other"]) == 3
    assert main([*words, "--ignore-key", "novelty"]) == 0


def test_all_problems_are_told_at_once(tmp_path: Path):
    """Faults of configuration, index and several shards come in one message, and nothing is written."""
    tensors = glm_tensors(GLM_MOE)
    folder = write_checkpoint(tmp_path / "model", _without(GLM_MOE, "rope_theta", "head_dim"), tensors, shards=3)
    first, second, third = sorted(folder.glob("*.safetensors"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-100])
    third.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    run = run_converter(folder, "q40", tmp_path / "x.m")
    assert run.returncode == 3
    assert "Traceback" not in run.stderr
    for word in (
        "rope_theta is missing",
        "head_dim is missing",
        first.name,
        second.name,
        "truncated",
        "Git LFS pointer",
    ):
        assert word in run.stderr
    assert list(tmp_path.glob("x.m*")) == []


def test_refusals_come_without_the_compiler(tmp_path: Path):
    """What takes most of a start is not loaded to say no."""
    code = f"import sys; from dllama_glm.convert import main; main([{str(tmp_path)!r}, 'q40', 'x']); "
    words = [sys.executable, "-c", f"{code}print('numba' in sys.modules)"]
    run = subprocess.run(words, cwd=PAYLOAD, capture_output=True, text=True, check=True, timeout=60)
    assert "cannot convert" in run.stderr
    assert run.stdout == "False\n"


def _mutate_header(path: Path, change: Any) -> None:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def _overlap(header: dict[str, Any]) -> None:
    header["model.norm.weight"]["data_offsets"] = header["model.layers.0.input_layernorm.weight"]["data_offsets"]


def _reach_out(header: dict[str, Any]) -> None:
    header["lm_head.weight"]["data_offsets"][1] += 64


def _wrong_shape(header: dict[str, Any]) -> None:
    header["lm_head.weight"]["shape"].reverse()


def _wrong_dtype(header: dict[str, Any]) -> None:
    header["lm_head.weight"]["dtype"] = "F8_E4M3"
    header["lm_head.weight"]["shape"][1] *= 2


def _strange_dtype(header: dict[str, Any]) -> None:
    header["lm_head.weight"]["dtype"] = "I16"


def _renamed(header: dict[str, Any]) -> None:
    header["model.layers.0.mlp.gate.bias"] = header.pop("lm_head.weight")


def _negative(header: dict[str, Any]) -> None:
    header["lm_head.weight"]["shape"] = [-1, 64]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_overlap, ["overlaps", "belong to no tensor|are no tensor's"]),
        (_reach_out, ["lm_head.weight", "truncated"]),
        (_wrong_shape, ["lm_head.weight has the shape [64, 96]; config.json calls for [96, 64]"]),
        (_wrong_dtype, ["lm_head.weight"]),
        (_strange_dtype, ["lm_head.weight is I16; readable: BF16, F16, F32"]),
        (_renamed, ["lm_head.weight is in no shard", "mlp.gate.bias [96, 64] has no place in glm4"]),
        (_negative, ["lm_head.weight' has the shape [-1, 64]"]),
    ],
)
def test_damaged_shard_headers_are_refused(change: Any, words: list[str], tmp_path: Path):
    """Overlaps, gaps, ends behind the file, wrong shapes and types, missing and unknown tensors are all told."""
    folder = write_checkpoint(tmp_path, GLM, glm_tensors(GLM))
    _mutate_header(folder / "model.safetensors", change)
    found = "\n".join(problems(folder))
    assert "model.safetensors" in found
    for word in words:
        assert any(choice in found for choice in word.split("|")), found


def test_the_index_is_checked_against_the_shards(tmp_path: Path):
    """A tensor in the wrong shard, one that no shard has, one that the index lacks, and a path are all told."""
    folder = write_checkpoint(tmp_path, GLM, glm_tensors(GLM), shards=2)
    index = json.loads((folder / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    placed = index["weight_map"]
    placed["model.norm.weight"] = next(name for name in files if name != placed["model.norm.weight"])
    placed["model.extra.weight"] = files[0]
    placed["model.layers.0.input_layernorm.weight"] = "../elsewhere.safetensors"
    del placed["lm_head.weight"]
    (folder / INDEX).write_text(json.dumps(index))
    found = "\n".join(problems(folder))
    assert "'model.norm.weight' should be in" in found
    assert "'model.extra.weight' should be in" in found
    assert "tensor 'lm_head.weight' is not in model.safetensors.index.json" in found
    assert "'../elsewhere.safetensors', which is no shard" in found


def test_numbered_shards_without_an_index_must_be_complete(tmp_path: Path):
    """model-00001-of-00002 alone tells that the other is missing."""
    folder = write_checkpoint(tmp_path, GLM, glm_tensors(GLM), shards=2)
    (folder / INDEX).unlink()
    assert problems(folder) == ()
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "the shard model-00002-of-00002.safetensors is missing" in "\n".join(problems(folder))


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path):
    """Without an index, nothing says which of the two counts."""
    folder = write_checkpoint(tmp_path, GLM, glm_tensors(GLM))
    (folder / "other.safetensors").write_bytes(shard_bytes({"model.norm.weight": np.zeros(64, np.uint16)}))
    assert "tensor 'model.norm.weight' is in model.safetensors too" in "\n".join(problems(folder))


def test_a_missing_head_is_not_taken_from_the_embedding_unasked(tmp_path: Path):
    """Without tie_word_embeddings, a missing lm_head is a missing tensor."""
    tensors = glm_tensors(GLM)
    del tensors["lm_head.weight"]
    found = problems(write_checkpoint(tmp_path, GLM, tensors))
    assert len(found) == 1
    assert "tie_word_embeddings" in found[0]


def test_a_tied_head_that_differs_is_refused(tmp_path: Path):
    """Both a promise of tied embeddings and a different lm_head: which one holds cannot be known."""
    config = GLM | {"tie_word_embeddings": True}
    tensors = glm_tensors(config)
    assert (
        "lm_head.weight that is not model.embed_tokens.weight"
        in problems(write_checkpoint(tmp_path, config, tensors))[0]
    )
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    assert problems(write_checkpoint(tmp_path, config, tensors)) == ()


@pytest.mark.parametrize(("kind", "value"), [("q40", np.nan), ("q80", np.inf), ("f16", 70000.0), ("f32", -np.inf)])
def test_a_bad_value_stops_the_conversion(kind: str, value: float, tmp_path: Path):
    """NaN, infinity and overflow of a half name shard, tensor and row, and no file appears under the final name."""
    tensors = glm_tensors(GLM)
    name = "model.layers.1.self_attn.o_proj.weight"
    values = np.ones((64, 128), np.float32)
    values[11, 70] = value
    tensors[name] = bf16(values)
    run = run_converter(write_checkpoint(tmp_path / "model", GLM, tensors), kind, tmp_path / "x.m")
    assert run.returncode == 3
    assert f"model.safetensors: {name}, row 11, values from 64 on" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "x.m").exists()


def test_the_output_may_not_lie_in_the_checkpoint(tmp_path: Path):
    """Neither in the folder itself nor below it, through a link either."""
    folder = write_checkpoint(tmp_path / "model", GLM, glm_tensors(GLM))
    (folder / "sub").mkdir()
    (tmp_path / "link").symlink_to(folder / "sub")
    for place in (folder / "x.m", folder / "sub" / "x.m", tmp_path / "link" / "x.m"):
        assert main([str(folder), "q40", "x", "--output", str(place)]) == 3
        assert not place.exists()


def test_too_full_a_disk_is_said_before_writing(tmp_path: Path):
    """The needed and the free bytes are both told."""
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with pytest.raises(CheckpointError, match=r"disk full: .*needs [\d,]+ bytes, .* has [\d,]+"):
        check_output(tmp_path / "x.m", tmp_path / "model", free * 2 + (1 << 40))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["folder"],
        ["folder", "q5", "name"],
        ["folder", "q40", "a/b"],
        ["folder", "q40", ".."],
        ["folder", "q40", ""],
        ["folder", "q40", "name", "--unknown"],
    ],
)
def test_wrong_use_is_exit_code_two(words: list[str], capsys: pytest.CaptureFixture[str]):
    """A usage line and what is wrong, on stderr."""
    assert main(words) == 2
    assert "usage:" in capsys.readouterr().err


def test_no_such_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A checkpoint that is not there is one sentence."""
    assert main([str(tmp_path / "none"), "q40", "x", "--output", str(tmp_path / "x.m")]) == 3
    assert f"{tmp_path / 'none'} is not a folder" in capsys.readouterr().err


def test_a_layer_too_many_is_no_prediction_layer(tmp_path: Path):
    """Layers behind the last are left out only if they predict next tokens: a config that forgets one is refused."""
    folder = write_checkpoint(tmp_path / "m", GLM_MOE, glm_tensors(GLM_MOE))
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] -= 1
    (folder / "config.json").write_text(json.dumps(config))
    found = problems(folder)
    assert found
    assert all("is of a layer behind the" in text for text in found)


def test_two_answers_to_which_weights_are_refused(tmp_path: Path):
    """model.safetensors beside an index: transformers takes the one, an index means the others; nobody guesses."""
    folder = write_checkpoint(tmp_path / "m", GLM_MOE, glm_tensors(GLM_MOE), shards=2)
    (folder / "model.safetensors").write_bytes(shard_bytes(glm_tensors(GLM_MOE, seed=2)))
    assert problems(folder) == (
        f"model.safetensors and {INDEX} are both here, and say different things: remove the one that is old",
    )


def test_mistrals_window_stands_in_the_header_or_is_left_out_on_request(tmp_path: Path):
    """Without the key transformers takes 4096: a longer context has the window in the header, and a note either way."""
    config = _without(_golden("mistral"), "sliding_window") | {"max_position_embeddings": 8192}
    folder = tmp_path / "m"
    shutil.copytree(GOLDEN / "mistral", folder)
    (folder / "config.json").write_text(json.dumps(config))
    plan, cut = (make_plan(folder, FloatType.Q40, allow_window=allowed) for allowed in (False, True))
    assert (plan.config.header.window, cut.config.header.window) == (4096, 0)
    assert [pair for pair in plan.config.header.pairs if pair not in cut.config.header.pairs] == [(112, 4096)]
    assert any("--allow-window leaves it out" in note for note in plan.notes)
    assert any("sliding_window 4096 is not in the file" in note for note in cut.notes)


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_that_sees_nothing_is_refused(window: int):
    """A header with a window of no positions, or with one where the architecture has none, is no header."""
    config = read_config(GOLDEN / "mistral", FloatType.Q40).header.pairs
    with pytest.raises(ModelFileError, match="key 112"):
        header_from_pairs((*config, (112, window)))
    qwen = read_config(GOLDEN / "qwen3", FloatType.Q40).header.pairs
    with pytest.raises(ModelFileError, match="key 112, which QWEN3 does not have"):
        header_from_pairs((*qwen, (112, 64)))
