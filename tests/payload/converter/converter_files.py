"""Small checkpoints written for one test, and the converter run as a user runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests import forked

TESTS = Path(__file__).resolve().parents[2]
GOLDEN = TESTS / "golden"
MODELS = TESTS / "models"
PAYLOAD = TESTS.parent / "remote" / "distributed-llama"
SCRIPT = PAYLOAD / "converter" / "convert-hf.py"

Config = dict[str, Any]
Array = npt.NDArray[Any]
Tensors = dict[str, Array]  # uint16 stands for BF16

_NAMES = {"uint16": "BF16", "float16": "F16", "float32": "F32", "int64": "I64"}

GLM_MOE: Config = {
    "model_type": "glm4_moe", "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 96,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 1000000, "partial_rotary_factor": 0.5,
    "rope_scaling": None, "tie_word_embeddings": False, "attention_bias": True, "use_qk_norm": False,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
    "norm_topk_prob": True, "routed_scaling_factor": 1.0, "first_k_dense_replace": 1, "moe_intermediate_size": 32,
    "num_nextn_predict_layers": 0,
}  # fmt: skip
GLM: Config = {
    "model_type": "glm4", "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 96,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
    "tie_word_embeddings": False, "attention_bias": True,
}  # fmt: skip


def bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of the floats' bits."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def glm_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a GLM checkpoint, as transformers writes them."""
    dim, moe = config["hidden_size"], config["model_type"] == "glm4_moe"
    q, kv = (config[key] * config["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], dim)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for letter, rows in (("q", q), ("k", kv), ("v", kv)):
            shapes[f"{at}self_attn.{letter}_proj.weight"] = (rows, dim)
            if config["attention_bias"]:
                shapes[f"{at}self_attn.{letter}_proj.bias"] = (rows,)
        shapes[f"{at}self_attn.o_proj.weight"] = (dim, q)
        norms = ["input_layernorm", "post_attention_layernorm"]
        if moe:
            shapes |= _moe_mlp(config, at, layer)
        else:
            shapes[f"{at}mlp.gate_up_proj.weight"] = (2 * config["intermediate_size"], dim)
            shapes[f"{at}mlp.down_proj.weight"] = (dim, config["intermediate_size"])
            norms += ["post_self_attn_layernorm", "post_mlp_layernorm"]
        shapes |= {f"{at}{norm}.weight": (dim,) for norm in norms}
        if config.get("use_qk_norm"):
            shapes |= {f"{at}self_attn.{letter}_norm.weight": (config["head_dim"],) for letter in "qk"}
    return shapes | {"model.norm.weight": (dim,), "lm_head.weight": (config["vocab_size"], dim)}


def _moe_mlp(config: Config, at: str, layer: int) -> dict[str, tuple[int, ...]]:
    dim, width, experts = config["hidden_size"], config["moe_intermediate_size"], config["n_routed_experts"]
    if layer < config["first_k_dense_replace"]:
        return _gated(f"{at}mlp.", config["intermediate_size"], dim)
    shapes: dict[str, tuple[int, ...]] = {
        f"{at}mlp.gate.weight": (experts, dim),
        f"{at}mlp.gate.e_score_correction_bias": (experts,),
    }
    for expert in range(experts):
        shapes |= _gated(f"{at}mlp.experts.{expert}.", width, dim)
    return shapes | _gated(f"{at}mlp.shared_experts.", width * config["n_shared_experts"], dim)


def _gated(at: str, width: int, dim: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{at}gate_proj.weight": (width, dim),
        f"{at}up_proj.weight": (width, dim),
        f"{at}down_proj.weight": (dim, width),
    }


def glm_tensors(config: Config, *, seed: int = 1) -> Tensors:
    """Random weights for a GLM configuration: BF16, but for the correction bias, which is F32."""
    random = np.random.default_rng(seed)
    tensors: Tensors = {}
    for name, shape in glm_shapes(config).items():
        values = random.standard_normal(shape).astype(np.float32)
        tensors[name] = values if name.endswith("e_score_correction_bias") else bf16(values)
    return tensors


def shard_bytes(tensors: Mapping[str, Array]) -> bytes:
    """A safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, values in tensors.items():
        end = position + values.nbytes
        header[name] = {
            "dtype": _NAMES[values.dtype.name],
            "shape": list(values.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(values.tobytes() for values in tensors.values())


def write_checkpoint(folder: Path, config: Config, tensors: Tensors, *, shards: int = 1) -> Path:
    """Write config.json, the shards (tensors dealt out in turn) and, for several, their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        (folder / "model.safetensors").write_bytes(shard_bytes(tensors))
        return folder
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(tensors.items())[number::shards])
        weight_map |= dict.fromkeys(part, file)
        (folder / file).write_bytes(shard_bytes(part))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def command(folder: Path, kind: str, output: Path, *options: str) -> list[str]:
    """The command line of one conversion."""
    return [sys.executable, str(SCRIPT), str(folder), kind, "name", "--output", str(output), *options]


def run_converter(
    folder: Path, kind: str, output: Path, *options: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the script to its end."""
    _, script, *words = command(folder, kind, output, *options)
    return forked.script(Path(script), *words, env={**os.environ, **(env or {})}, cwd=cwd)


def begin_converter(folder: Path, kind: str, output: Path) -> forked.Forked:
    """Run the script."""
    _, script, *words = command(folder, kind, output)
    return forked.started_script(Path(script), *words, env=os.environ)


def convert(folder: Path, kind: str, output: Path, *options: str) -> bytes:
    """Convert in this process and return the output's bytes; fails the test if the converter fails."""
    from dllama_glm.convert import main

    assert main([str(folder), kind, "name", "--output", str(output), *options]) == 0
    return output.read_bytes()
