"""Experts stacked as PrimeIntellect's trainer prime-rl writes them."""

import re
from pathlib import Path

import numpy as np
import pytest
from dllama_glm.checkpoint.errors import CheckpointError
from dllama_glm.convert.plan import make_plan
from dllama_glm.formats.float_types import FloatType
from safetensors import deserialize

from tests.payload.converter.converter_files import (
    GLM_MOE,
    GOLDEN,
    MODELS,
    Tensors,
    convert,
    glm_tensors,
    shard_bytes,
    write_checkpoint,
)

RENAMED = {
    "mlp.gate.weight": "mlp.router.gate.weight",
    "mlp.gate.e_score_correction_bias": "mlp.expert_bias",
    "mlp.shared_experts.gate_proj.weight": "mlp.shared_expert.w1",
    "mlp.shared_experts.down_proj.weight": "mlp.shared_expert.w2",
    "mlp.shared_experts.up_proj.weight": "mlp.shared_expert.w3",
}
STACKS = {"gate": "w1", "down": "w2", "up": "w3"}


def trainers(plain: Tensors, *, leading: bool = False) -> Tensors:
    """The same weights under the trainer's names; `leading`: a shared expert is a stack of one."""
    stacks: dict[str, dict[int, np.ndarray]] = {}
    found: Tensors = {}
    for name, values in plain.items():
        if match := re.match(r"(.+\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.weight$", name):
            stacks.setdefault(f"{match[1]}.{STACKS[match[3]]}", {})[int(match[2])] = values
            continue
        new = next((name.removesuffix(old) + new for old, new in RENAMED.items() if name.endswith("." + old)), name)
        found[new] = values[None] if leading and "shared_expert." in new else values
    found |= {name: np.stack([experts[number] for number in sorted(experts)]) for name, experts in stacks.items()}
    counts = {f"model.layers.{layer}.mlp.tokens_per_expert": np.ones(4, np.float32) for layer in (1, 2)}
    return found | counts


def _read(folder: Path) -> Tensors:
    kinds = {"BF16": np.uint16, "F32": np.float32}
    return {
        name: np.frombuffer(entry["data"], kinds[entry["dtype"]]).reshape(entry["shape"])
        for file in sorted(folder.glob("*.safetensors"))
        for name, entry in deserialize(file.read_bytes())
    }


@pytest.mark.parametrize("kind", ["q40", "q80", "f16", "f32"])
@pytest.mark.parametrize("shared", ["plain", "a stack of one"])
def test_stacked_experts_give_the_plain_layouts_bytes(shared: str, kind: str, tmp_path: Path):
    """w1, w2, w3 over all experts, with the trainer's router, bias and shared expert: not one byte differs."""
    config = GLM_MOE | {"n_shared_experts": 2}
    plain = glm_tensors(config)
    usual = write_checkpoint(tmp_path / "plain", config, plain, shards=2)
    stacked = write_checkpoint(tmp_path / "stacked", config, trainers(plain, leading=shared != "plain"), shards=3)
    assert convert(stacked, kind, tmp_path / "x.m") == convert(usual, kind, tmp_path / "y.m")


@pytest.mark.parametrize("source", [MODELS / "PrimeIntellect" / "INTELLECT-3", GOLDEN / "qwen3_moe"])
def test_trained_models_convert_alike_from_either_layout(source: Path, tmp_path: Path):
    """The small INTELLECT-3 and the golden qwen3_moe, written anew in the trainer's layout."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes(shard_bytes(trainers(_read(source))))
    assert convert(folder, "q40", tmp_path / "x.m") == convert(source, "q40", tmp_path / "y.m")


def test_a_stack_of_another_shape_is_refused(tmp_path: Path):
    """Experts that lie the other way round are not taken for what they are not: name and both shapes are told."""
    tensors = trainers(glm_tensors(GLM_MOE | {"moe_intermediate_size": 96}))
    name = "model.layers.1.mlp.experts.w2"
    tensors[name] = np.ascontiguousarray(tensors[name].swapaxes(1, 2))
    folder = write_checkpoint(tmp_path, GLM_MOE | {"moe_intermediate_size": 96}, tensors)
    with pytest.raises(CheckpointError, match=r"experts\.w2 has the shape \[4, 96, 64\]; config.json calls for"):
        make_plan(folder, FloatType.Q40)


def test_both_layouts_at_once_are_refused(tmp_path: Path):
    """A stack beside the single experts that it holds: nobody says which of them counts."""
    plain = glm_tensors(GLM_MOE)
    folder = write_checkpoint(tmp_path, GLM_MOE, trainers(plain) | plain)
    with pytest.raises(CheckpointError, match=r"mlp\.experts\.w1 .*has no place in glm4_moe"):
        make_plan(folder, FloatType.Q40)
