"""Writes `.m` files for the runtime's tests, from the format's description and without the converter.

A case names a transformers configuration and the header that stands for it. Its weights are seeded random numbers;
`write_case` stores them and gives the transformers model the values that the stored blocks stand for.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dllama_glm.formats.model_file import Arch, FloatType, Key, MappedModel, RopeType, Scoring, encode_pairs
from dllama_glm.formats.model_header import header_from_pairs
from dllama_glm.formats.model_keys import float_bits
from dllama_glm.formats.model_layout import layout

from tests.payload.runtime.stored_blocks import encode

torch.set_num_threads(1)

COMMON = {
    "hidden_size": 96,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 160,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-5,
}
GLM_MOE: dict[str, Any] = {
    "num_hidden_layers": 3,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 1,
    "moe_intermediate_size": 64,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "use_qk_norm": False,
    "attention_bias": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5},
}


@dataclass(frozen=True)
class Case:
    """One architecture: the model type in transformers, its options, and the pairs that only this case has."""

    arch: Arch
    family: str
    options: dict[str, Any]
    pairs: dict[Key, int] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        return COMMON | self.options


def _glm_moe(**options: Any) -> Case:
    chosen = GLM_MOE | options
    pairs = {
        Key.ROPE_TYPE: RopeType.HALF_SPLIT,
        Key.ROPE_THETA: 1000000,
        Key.ROPE_THETA_BITS: float_bits(1e6),
        Key.N_EXPERTS: chosen["n_routed_experts"],
        Key.N_ACTIVE_EXPERTS: chosen["num_experts_per_tok"],
        Key.MOE_HIDDEN_DIM: chosen["moe_intermediate_size"],
        Key.FIRST_DENSE_LAYERS: chosen["first_k_dense_replace"],
        Key.N_SHARED_EXPERTS: chosen["n_shared_experts"],
        Key.SCORING: Scoring.SIGMOID,
        Key.ROUTED_SCALING_FACTOR: float_bits(chosen["routed_scaling_factor"]),
        Key.N_GROUPS: chosen["n_group"],
        Key.TOPK_GROUPS: chosen["topk_group"],
        Key.NORM_TOPK_PROB: int(chosen["norm_topk_prob"]),
        Key.QK_NORM: int(chosen["use_qk_norm"]),
        Key.ATTENTION_BIAS: int(chosen["attention_bias"]),
        Key.ROTARY_DIM: 16,
        Key.NORM_EPS_BITS: float_bits(1e-5),
    }
    return Case(Arch.GLM4_MOE, "Glm4Moe", chosen, pairs)


def _glm(*, bias: bool) -> Case:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    pairs = {
        Key.ROPE_TYPE: RopeType.ADJACENT,
        Key.ROPE_THETA: 10000,
        Key.ROPE_THETA_BITS: float_bits(1e4),
        Key.N_EXPERTS: 0,
        Key.N_ACTIVE_EXPERTS: 0,
        Key.QK_NORM: 0,
        Key.ATTENTION_BIAS: int(bias),
        Key.ROTARY_DIM: 16,
        Key.NORM_EPS_BITS: float_bits(1e-5),
    }
    return Case(Arch.GLM4, "Glm4", {"attention_bias": bias, "rope_parameters": rope, "pad_token_id": 0}, pairs)


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
QWEN = {"rms_norm_eps": 1e-6, "rope_parameters": PLAIN_ROPE}
QWEN_PAIRS = {Key.ROPE_THETA: 10000, Key.NORM_EPSILON: 6}
CASES = {
    "llama": Case(Arch.LLAMA, "Llama", {"rope_parameters": PLAIN_ROPE}, {Key.ROPE_THETA: 10000}),
    "llama-odd-heads": Case(
        Arch.LLAMA,
        "Llama",
        {"rope_parameters": PLAIN_ROPE, "head_dim": 16, "num_attention_heads": 8, "num_key_value_heads": 4},
        {Key.ROPE_THETA: 10000},
    ),
    "llama3": Case(
        Arch.LLAMA,
        "Llama",
        {"rope_parameters": LLAMA3_ROPE},
        {
            Key.ROPE_THETA: 500000,
            Key.ROPE_TYPE: RopeType.LLAMA3_1,
            Key.ROPE_SCALING_FACTOR: 8,
            Key.ROPE_SCALING_LOW_FREQ_FACTOR: 1,
            Key.ROPE_SCALING_HIGH_FREQ_FACTOR: 4,
            Key.ROPE_SCALING_ORIG_MAX_SEQ_LEN: 32,
        },
    ),
    "mistral": Case(
        Arch.LLAMA,
        "Mistral",
        {"rope_parameters": PLAIN_ROPE, "sliding_window": 21},
        {Key.ROPE_THETA: 10000, Key.WINDOW: 21},
    ),
    "qwen3": Case(Arch.QWEN3, "Qwen3", QWEN, QWEN_PAIRS),
    "qwen3_moe": Case(
        Arch.QWEN3_MOE,
        "Qwen3Moe",
        QWEN | {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True},
        QWEN_PAIRS | {Key.N_EXPERTS: 8, Key.N_ACTIVE_EXPERTS: 2, Key.MOE_HIDDEN_DIM: 32},
    ),
    "glm4": _glm(bias=True),
    "glm4-without-bias": _glm(bias=False),
    "glm4_moe": _glm_moe(),
    "glm4_moe-grouped": _glm_moe(n_group=4, topk_group=2, routed_scaling_factor=2.5, use_qk_norm=True),
    "glm4_moe-two-shared": _glm_moe(n_shared_experts=2, norm_topk_prob=False, attention_bias=False),
    "glm4_moe-two-dense": _glm_moe(first_k_dense_replace=2, routed_scaling_factor=2.5),
    "glm4_moe-all-sparse": _glm_moe(first_k_dense_replace=0, n_shared_experts=0),
}


def write_case(name: str, folder: Path, float_type: FloatType = FloatType.F32) -> tuple[Path, Any]:
    """Write the case's `.m` file; return its path and the transformers model with the stored weights."""
    case = CASES[name]
    model = _random_model(case)
    tensors = _named(model.state_dict())
    if case.arch is Arch.LLAMA:
        _reorder_heads(tensors, case.config, _to_adjacent)
    path = folder / f"{name}-{float_type.name}.m"
    write(path, _pairs(case, float_type), tensors)
    mapped = MappedModel(path)
    stored = {slot: mapped.values(slot) for slot in mapped.slots}
    if case.arch is Arch.LLAMA:
        _reorder_heads(stored, case.config, _to_halves)
    _give_back(model, stored)
    return path, model


def write(path: Path, pairs: dict[Key, int], tensors: dict[str, np.ndarray]) -> None:
    """Write a `.m` file from its header pairs and the tensors that the header calls for."""
    ordered = tuple((int(key), int(value)) for key, value in pairs.items())
    header = header_from_pairs(ordered)
    with path.open("wb") as file:
        file.write(encode_pairs(ordered))
        for slot in layout(header):
            file.write(encode(tensors[slot.name], slot.float_type))


def logits_of(model: Any, ids: list[int]) -> np.ndarray:
    """The logits of transformers at every position [tokens, vocab]."""
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def oracle_of(folder: Path) -> Any:
    """A checkpoint as transformers computes it, in float32."""
    import transformers  # a second, which whoever only collects this need not wait for

    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def _random_model(case: Case) -> Any:
    import transformers

    config = getattr(transformers, f"{case.family}Config")(**case.config)
    config._attn_implementation = "eager"
    torch.manual_seed(7)
    model = getattr(transformers, f"{case.family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            spread = {"bias": 0.3, "e_score_correction_bias": 0.2}.get(name.rpartition(".")[2], 0.15)
            tensor.normal_(1.0 if "norm" in name else 0.0, spread)
    return model


def _pairs(case: Case, float_type: FloatType) -> dict[Key, int]:
    config = case.config
    return {
        Key.VERSION: 0,
        Key.ARCH_TYPE: case.arch,
        Key.HIDDEN_ACT: 1,
        Key.DIM: config["hidden_size"],
        Key.HIDDEN_DIM: config["intermediate_size"],
        Key.N_LAYERS: config["num_hidden_layers"],
        Key.N_HEADS: config["num_attention_heads"],
        Key.N_KV_HEADS: config["num_key_value_heads"],
        Key.WEIGHTS_FLOAT_TYPE: float_type,
        Key.MAX_SEQ_LEN: config["max_position_embeddings"],
        Key.VOCAB_SIZE: config["vocab_size"],
        Key.HEAD_DIM: config["head_dim"],
    } | case.pairs


def _named(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """Take fused matrices apart: the file holds each expert, and gate and up, by themselves."""
    tensors: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
        values = tensor.numpy()
        prefix, _, last = name.rpartition(".")
        if name.endswith("experts.gate_up_proj"):
            for expert, fused in enumerate(values):
                gate, up = np.split(fused, 2)
                tensors[f"{prefix}.{expert}.gate_proj.weight"] = gate
                tensors[f"{prefix}.{expert}.up_proj.weight"] = up
        elif name.endswith("experts.down_proj"):
            tensors |= {f"{prefix}.{expert}.down_proj.weight": down for expert, down in enumerate(values)}
        elif name.endswith("mlp.gate_up_proj.weight"):
            gate, up = np.split(values, 2)
            base = prefix.removesuffix("gate_up_proj")
            tensors |= {f"{base}gate_proj.weight": gate, f"{base}up_proj.weight": up}
        elif last != "inv_freq":
            tensors[name] = values
    return {name: values.copy() for name, values in tensors.items()}


def _give_back(model: Any, stored: dict[str, np.ndarray]) -> None:
    """Load the stored values into the transformers model, fused again where it wants them so."""
    state = {}
    for name, tensor in model.state_dict().items():
        prefix = name.rpartition(".")[0]
        if name.endswith("experts.gate_up_proj"):
            pair = ("gate", "up")
            parts = [[stored[f"{prefix}.{e}.{p}_proj.weight"] for p in pair] for e in range(len(tensor))]
            state[name] = np.stack([np.concatenate(part) for part in parts])
        elif name.endswith("experts.down_proj"):
            state[name] = np.stack([stored[f"{prefix}.{e}.down_proj.weight"] for e in range(len(tensor))])
        elif name.endswith("mlp.gate_up_proj.weight"):
            base = prefix.removesuffix("gate_up_proj")
            state[name] = np.concatenate([stored[f"{base}gate_proj.weight"], stored[f"{base}up_proj.weight"]])
        elif tensor.numel():
            state[name] = stored[name]
        else:  # transformers has a shared expert of width 0 where there is none
            state[name] = tensor.numpy()
    model.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in state.items()})


def _reorder_heads(tensors: dict[str, np.ndarray], config: dict[str, Any], reorder: Any) -> None:
    for name, values in tensors.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = values.reshape(-1, config["head_dim"], config["hidden_size"])
            tensors[name] = reorder(heads).reshape(-1, config["hidden_size"])


def _to_adjacent(heads: np.ndarray) -> np.ndarray:
    half = heads.shape[1] // 2
    return np.stack([heads[:, :half], heads[:, half:]], axis=2).reshape(heads.shape)


def _to_halves(heads: np.ndarray) -> np.ndarray:
    return np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=1)
