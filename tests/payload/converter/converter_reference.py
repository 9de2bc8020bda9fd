"""The format written a second time, from `docs/format.md`, in plain numpy: what the converter is compared with."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.payload.converter.converter_files import Config, Tensors

Floats = npt.NDArray[np.float32]
_TYPES = {"f32": 0, "f16": 1, "q40": 2, "q80": 3}


def floats(values: npt.NDArray[Any]) -> Floats:
    """Checkpoint values (uint16 stands for BF16) as float32."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32)


def q40(values: Floats) -> bytes:
    """Blocks of 18 bytes."""
    groups = values.reshape(-1, 32)
    high, low = _maximum(groups), groups.min(axis=1)
    delta = np.where(-low > high, low, high) / np.float32(-8)
    with np.errstate(all="ignore"):
        inverse = np.where(delta != 0, np.float32(1) / delta, np.float32(0))
        scaled = groups * inverse[:, None] + np.float32(8.5)
        nibbles = np.nan_to_num(np.clip(scaled, 0, 15), nan=0.0).astype(np.uint8)
        scales = delta.astype(np.float16)
    packed = nibbles[:, :16] | (nibbles[:, 16:] << 4)
    return np.concatenate([scales[:, None].view(np.uint8), packed], axis=1).tobytes()


def q80(values: Floats) -> bytes:
    """Blocks of 34 bytes."""
    groups = values.reshape(-1, 32)
    high, low = _maximum(groups), groups.min(axis=1)
    delta = np.where(-low > high, -low, high) / np.float32(127)
    with np.errstate(all="ignore"):
        inverse = np.where(delta != 0, np.float32(1) / delta, np.float32(0))
        scaled = np.round(groups * inverse[:, None])
        scaled = np.where(np.isinf(inverse)[:, None], np.float32(0), scaled)
        scales = delta.astype(np.float16)
    return np.concatenate([scales[:, None].view(np.uint8), scaled.astype(np.int8).view(np.uint8)], axis=1).tobytes()


def _maximum(groups: Floats) -> Floats:
    """The largest value; of nothing but zeros, the last one, whose sign is the one that upstream stores."""
    return np.where((groups == 0).all(axis=1), groups[:, -1], groups.max(axis=1))


def encode(values: Floats, kind: str) -> bytes:
    """Values in one of the four types."""
    flat = np.ascontiguousarray(values).reshape(-1)
    if kind == "f32":
        return flat.tobytes()
    if kind == "f16":
        return flat.astype(np.float16).tobytes()
    return q40(flat) if kind == "q40" else q80(flat)


def bits(value: float) -> int:
    """Float32 bits as int32."""
    return int(struct.unpack("<i", struct.pack("<f", value))[0])


def glm_file(config: Config, tensors: Tensors, kind: str) -> bytes:
    """The whole `.m` of a glm4 or glm4_moe checkpoint with the old configuration keys."""
    pairs = list(_pairs(config, kind))
    flat = [number for pair in pairs for number in pair]
    header = struct.pack(f"<II{len(flat)}i", 0x0A00ABCD, 8 + 8 * len(pairs), *flat)
    return header + b"".join(encode(values, form) for values, form in _tensors(config, tensors, kind))


def _pairs(config: Config, kind: str) -> Iterator[tuple[int, int]]:
    moe = config["model_type"] == "glm4_moe"
    yield from ((0, 0), (1, 0xABCD04 if moe else 0xABCD03), (11, 1), (2, config["hidden_size"]))
    yield from ((3, config["intermediate_size"]), (4, config["num_hidden_layers"]))
    yield from ((5, config["num_attention_heads"]), (6, config["num_key_value_heads"]), (13, _TYPES[kind]))
    yield from ((10, config["max_position_embeddings"]), (9, config["vocab_size"]))
    yield from ((7, config["n_routed_experts"] if moe else 0), (8, config["num_experts_per_tok"] if moe else 0))
    yield from ((12, int(config["rope_theta"])), (18, int(moe)), (19, config["head_dim"]))
    if config["rms_norm_eps"] in {1e-5, 1e-6}:
        yield 20, 5 if config["rms_norm_eps"] == 1e-5 else 6
    if moe:
        yield 21, config["moe_intermediate_size"]
    yield 100, int(config["head_dim"] * config["partial_rotary_factor"])
    if moe:
        yield from ((101, config["first_k_dense_replace"]), (102, config["n_shared_experts"]), (103, 1))
        yield 104, bits(config["routed_scaling_factor"])
    yield from ((105, int(config["attention_bias"])), (106, int(config.get("use_qk_norm", False))))
    if moe:
        yield from ((107, config["n_group"]), (108, config["topk_group"]))
    yield 109, bits(config["rms_norm_eps"])
    if moe:
        yield 110, int(config["norm_topk_prob"])
    yield 111, bits(config["rope_theta"])


def _tensors(config: Config, tensors: Tensors, kind: str) -> Iterator[tuple[Floats, str]]:
    yield floats(tensors["model.embed_tokens.weight"]), "f32"
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for letter in "qkv":
            yield floats(tensors[f"{at}self_attn.{letter}_proj.weight"]), kind
            if config["attention_bias"]:
                yield floats(tensors[f"{at}self_attn.{letter}_proj.bias"]), "f32"
        yield floats(tensors[f"{at}self_attn.o_proj.weight"]), kind
        yield from _mlp(config, tensors, f"{at}mlp.", layer, kind)
        if config.get("use_qk_norm"):
            yield floats(tensors[f"{at}self_attn.q_norm.weight"]), "f32"
            yield floats(tensors[f"{at}self_attn.k_norm.weight"]), "f32"
        norms = ["input_layernorm", "post_attention_layernorm"]
        if config["model_type"] == "glm4":
            norms += ["post_self_attn_layernorm", "post_mlp_layernorm"]
        for norm in norms:
            yield floats(tensors[f"{at}{norm}.weight"]), "f32"
    yield floats(tensors["model.norm.weight"]), "f32"
    name = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    yield floats(tensors[name]), kind


def _mlp(config: Config, tensors: Tensors, at: str, layer: int, kind: str) -> Iterator[tuple[Floats, str]]:
    if config["model_type"] == "glm4":
        fused = floats(tensors[f"{at}gate_up_proj.weight"])
        width = config["intermediate_size"]
        yield from ((fused[:width], kind), (floats(tensors[f"{at}down_proj.weight"]), kind), (fused[width:], kind))
        return
    places = [at]
    if layer >= config["first_k_dense_replace"]:
        yield floats(tensors[f"{at}gate.weight"]), "f32"
        yield floats(tensors[f"{at}gate.e_score_correction_bias"]), "f32"
        places = [f"{at}experts.{expert}." for expert in range(config["n_routed_experts"])]
        places += [f"{at}shared_experts."] if config["n_shared_experts"] else []
    for place in places:
        for part in ("gate", "down", "up"):
            yield floats(tensors[f"{place}{part}_proj.weight"]), kind
