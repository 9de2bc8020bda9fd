"""Synthetic checkpoints of about a gigabyte: the sizes of real models' tensors, filled with noise of their scale."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint16]
Shape = tuple[int, ...]

_DENSE: dict[str, Any] = {
    "model_type": "llama", "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 5632,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 32000,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
}  # fmt: skip
_MIXTURE: dict[str, Any] = {
    "model_type": "qwen3_moe", "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 6144,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 16000,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": False,
    "num_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 768, "norm_topk_prob": True,
    "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A folder, its configuration and its tensors' shapes by name."""

    name: str
    folder: Path
    config: dict[str, Any]
    shapes: dict[str, Shape]

    @property
    def shard(self) -> Path:
        """The one file with all weights."""
        return self.folder / "model.safetensors"

    @property
    def parameters(self) -> int:
        """Values in all tensors."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def tensors(self) -> Iterator[tuple[str, Shape, Words]]:
        """Every tensor as BF16 words, the same at each call."""
        noise = (np.random.default_rng(1).standard_normal(1 << 22).astype(np.float32) * 0.02).view(np.uint32)
        pool = (noise >> np.uint32(16)).astype(np.uint16)
        for number, (name, shape) in enumerate(self.shapes.items()):
            yield name, shape, np.resize(np.roll(pool, number * 9973), int(np.prod(shape)))


def make(room: Path, name: str, megabytes: int) -> Checkpoint:
    """Write the `dense` or the `mixture` checkpoint with as many layers as come nearest to the size from above."""
    config = dict(_DENSE if name == "dense" else _MIXTURE)
    layers = 0
    while True:
        layers += 1
        shapes = _shapes(config, layers)
        if sum(int(np.prod(shape)) for shape in shapes.values()) * 2 >= megabytes * 1_000_000:
            break
    config["num_hidden_layers"] = layers
    checkpoint = Checkpoint(name, room / name, config, shapes)
    checkpoint.folder.mkdir()
    (checkpoint.folder / "config.json").write_text(json.dumps(config))
    header, position = {}, 0
    for tensor, shape in shapes.items():
        end = position + 2 * int(np.prod(shape))
        header[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with checkpoint.shard.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, words in checkpoint.tensors():
            file.write(words.tobytes())
    return checkpoint


def _shapes(config: dict[str, Any], layers: int) -> dict[str, Shape]:
    dim, head = config["hidden_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (config["vocab_size"], dim)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{part}_proj.weight": (rows, dim) for part, rows in (("q", q), ("k", kv), ("v", kv))}
        shapes[f"{at}self_attn.o_proj.weight"] = (dim, q)
        if "num_experts" in config:
            shapes[f"{at}mlp.gate.weight"] = (config["num_experts"], dim)
            for expert in range(config["num_experts"]):
                shapes |= _gated(f"{at}mlp.experts.{expert}.", config["moe_intermediate_size"], dim)
            shapes |= {f"{at}self_attn.{part}_norm.weight": (head,) for part in "qk"}
        else:
            shapes |= _gated(f"{at}mlp.", config["intermediate_size"], dim)
        shapes |= {f"{at}{norm}.weight": (dim,) for norm in ("input_layernorm", "post_attention_layernorm")}
    return shapes | {"model.norm.weight": (dim,), "lm_head.weight": (config["vocab_size"], dim)}


def _gated(at: str, width: int, dim: int) -> dict[str, Shape]:
    return {
        f"{at}gate_proj.weight": (width, dim),
        f"{at}down_proj.weight": (dim, width),
        f"{at}up_proj.weight": (width, dim),
    }
