"""Models of random weights on which the runtime is measured: the same Q40 blocks as a `.m` and as a `.gguf` file."""

import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "remote" / "distributed-llama"))

from dllama_glm.formats.model_file import Arch, FloatType, Header, Key, TensorSlot, encode_pairs, layout
from dllama_glm.formats.model_header import header_from_pairs

CONTEXT = 4608
_HEADS, _HEAD_DIM, _DIM, _VOCABULARY, _WIDTH = 16, 128, 1024, 32000, 3072
_EXPERTS, _ACTIVE, _EXPERT_WIDTH = 32, 4, 512
_Q4_0 = 2  # GGUF's number of the type; also what it calls a file of such weights
_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate": "ffn_gate_inp",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


@dataclass(frozen=True)
class BenchModel:
    """One model: its name in the tables, and the files of both programs."""

    name: str
    m: Path
    gguf: Path


def make(room: Path, *, mixture: bool) -> BenchModel:
    """Write the files: qwen3 shapes of half a billion weights, or a mixture of a billion with 32 experts."""
    name = "MoE 1B, 4 of 32 experts" if mixture else "dense 0.5B"
    stem = "mixture" if mixture else "dense"
    model = BenchModel(name, room / f"{stem}.m", room / f"{stem}.gguf")
    header = _header(mixture=mixture)
    writer = _writer(model.gguf, header)
    random = np.random.default_rng(5)
    stacks: dict[str, list[npt.NDArray[Any]]] = {}
    with model.m.open("wb") as file:
        file.write(encode_pairs(header.pairs))
        for slot in layout(header):
            data = _blocks(slot, random) if slot.float_type is FloatType.Q40 else _floats(slot, random)
            file.write(data.tobytes())
            _add(writer, header, slot, data, stacks)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _header(*, mixture: bool) -> Header:
    pairs = {
        Key.VERSION: 0, Key.ARCH_TYPE: Arch.QWEN3_MOE if mixture else Arch.QWEN3, Key.HIDDEN_ACT: 1, Key.DIM: _DIM,
        Key.HIDDEN_DIM: _WIDTH, Key.N_LAYERS: 16 if mixture else 28, Key.N_HEADS: _HEADS,
        Key.N_KV_HEADS: 4 if mixture else 8, Key.WEIGHTS_FLOAT_TYPE: FloatType.Q40, Key.MAX_SEQ_LEN: CONTEXT,
        Key.VOCAB_SIZE: _VOCABULARY, Key.N_EXPERTS: _EXPERTS if mixture else 0,
        Key.N_ACTIVE_EXPERTS: _ACTIVE if mixture else 0, Key.ROPE_THETA: 1000000, Key.HEAD_DIM: _HEAD_DIM,
        Key.NORM_EPSILON: 6,
    }  # fmt: skip
    if mixture:
        pairs[Key.MOE_HIDDEN_DIM] = _EXPERT_WIDTH
    return header_from_pairs(tuple((int(key), int(value)) for key, value in pairs.items()))


def _blocks(slot: TensorSlot, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    count = prod(slot.shape) // 32
    blocks = random.integers(0, 256, (count, 18), dtype=np.uint8)
    scales = random.choice([-1, 1], count) * (0.007 + 0.006 * random.random(count))
    blocks[:, :2] = scales.astype(np.float16).view(np.uint8).reshape(-1, 2)
    return blocks.reshape(slot.shape[0], -1)


def _floats(slot: TensorSlot, random: np.random.Generator) -> npt.NDArray[np.float32]:
    if len(slot.shape) == 1:
        return np.float32(1) + random.standard_normal(slot.shape, np.float32) * np.float32(0.02)
    return random.standard_normal(slot.shape, np.float32) * np.float32(0.03)


def _writer(path: Path, header: Header) -> Any:
    import gguf  # type: ignore[import-not-found, unused-ignore]  # a peer, installed only to be measured

    writer = gguf.GGUFWriter(path, "qwen3moe" if header.n_experts else "qwen3")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(header.dim)
    writer.add_block_count(header.n_layers)
    writer.add_feed_forward_length(header.hidden_dim)
    writer.add_head_count(header.n_heads)
    writer.add_head_count_kv(header.n_kv_heads)
    writer.add_key_length(header.head_dim)
    writer.add_value_length(header.head_dim)
    writer.add_rope_freq_base(header.rope_theta)
    writer.add_layer_norm_rms_eps(header.norm_eps)
    writer.add_file_type(_Q4_0)
    writer.add_vocab_size(header.vocab_size)
    writer.add_tokenizer_model("none")
    if header.n_experts:
        writer.add_expert_count(header.n_experts)
        writer.add_expert_used_count(header.n_active_experts)
        writer.add_expert_feed_forward_length(header.moe_hidden_dim)
    return writer


def _add(
    writer: Any, header: Header, slot: TensorSlot, data: npt.NDArray[Any], stacks: dict[str, list[npt.NDArray[Any]]]
) -> None:
    import gguf

    q4_0 = gguf.GGMLQuantizationType.Q4_0
    name = _gguf_name(slot.name)
    if ".experts." in slot.name:
        stacks.setdefault(name, []).append(data)
        if len(stacks[name]) == header.n_experts:
            writer.add_tensor(name, np.stack(stacks.pop(name)), raw_dtype=q4_0)
    elif slot.float_type is FloatType.Q40:
        writer.add_tensor(name, data, raw_dtype=q4_0)
    elif name == "token_embd.weight":  # llama.cpp keeps it in blocks; a token reads one row either way
        writer.add_tensor(name, gguf.quants.quantize(data, q4_0), raw_dtype=q4_0)
    else:
        writer.add_tensor(name, data)


def _gguf_name(name: str) -> str:
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in whole:
        return f"{whole[stem]}.weight"
    _, _, layer, rest = stem.split(".", 3)
    if rest.startswith("mlp.experts."):
        return f"blk.{layer}.ffn_{rest.rsplit('.', 1)[1].removesuffix('_proj')}_exps.weight"
    return f"blk.{layer}.{_NAMES[rest]}.weight"
