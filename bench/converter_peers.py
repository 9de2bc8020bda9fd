"""What the converter is measured beside: cp, llama.cpp's quantiser, and writing one block at a time."""

import ctypes
import importlib.util
import os
import struct
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from converter_checkpoints import Checkpoint, Shape, Words

_Q4_0 = 2
_LOOP_VALUES = 1 << 20


def copy(source: Path, target: Path) -> tuple[float, float]:
    """Seconds of `cp` onto a new file (the better of two), and of one more that is brought to the disk."""
    copied = []
    for _ in range(2):
        began = time.perf_counter()
        subprocess.run(["cp", str(source), str(target)], check=True)
        copied.append(time.perf_counter() - began)
        target.unlink()
    began = time.perf_counter()
    subprocess.run(["cp", str(source), str(target)], check=True)
    descriptor = os.open(target, os.O_RDWR)
    os.fsync(descriptor)
    synced = time.perf_counter() - began
    os.close(descriptor)
    target.unlink()
    return min(copied), synced


def block_loop(checkpoint: Checkpoint, target: Path) -> float:
    """Seconds for the whole checkpoint when blocks are packed and written one by one, as upstream's writer does.

    Measured on a million values and scaled up; vectorised arithmetic in front, as there.
    """
    words = next(words for _, _, words in checkpoint.tensors())[:_LOOP_VALUES]
    began = time.perf_counter()
    groups = (words.astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(-1, 32)
    high, low = groups.max(axis=1), groups.min(axis=1)
    deltas = np.where(-low > high, low, high) / np.float32(-8)
    scales = deltas.astype(np.float16)
    nibbles = np.clip(groups * (1 / deltas)[:, None] + np.float32(8.5), 0, 15).astype(int)
    packed = (nibbles[:, :16] & 0xF) | ((nibbles[:, 16:] & 0xF) << 4)
    with target.open("wb") as file:
        for scale, block in zip(scales, packed, strict=True):
            file.write(struct.pack("e16B", scale, *block))
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds * checkpoint.parameters / _LOOP_VALUES


def upstream(checkpoint: Checkpoint, checkout: Path, room: Path) -> float:
    """Seconds of upstream's own converter, its start-up included; 0: it does not take this checkpoint."""
    program = checkout.resolve() / "converter" / "convert-hf.py"
    words = [sys.executable, str(program), str(checkpoint.folder), "q40", "peer"]
    began = time.perf_counter()
    run = subprocess.run(words, cwd=room, capture_output=True, check=False)
    seconds = time.perf_counter() - began
    (room / "dllama_model_peer_q40.m").unlink(missing_ok=True)
    return 0.0 if run.returncode else seconds


def has_llama_cpp() -> bool:
    """Whether the optional peer (llama-cpp-python and gguf) is installed."""
    return all(importlib.util.find_spec(name) for name in ("llama_cpp", "gguf"))


def llama_cpp(checkpoint: Checkpoint, room: Path, threads: int, rounds: int) -> list[float]:
    """Seconds of llama.cpp's quantiser to pure Q4_0, from a BF16 GGUF of the same weights, warm."""
    import llama_cpp as peer  # type: ignore[import-not-found, unused-ignore]  # a peer, installed only to be measured

    source, target = room / f"{checkpoint.name}.gguf", room / "q4_0.gguf"
    if not source.exists():
        _write_gguf(checkpoint, source)
    source.read_bytes()
    silent = peer.llama_log_callback(lambda *_: None)
    peer.llama_log_set(silent, ctypes.c_void_p(0))
    peer.llama_backend_init()
    parameters = peer.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread, parameters.pure = _Q4_0, threads, True
    times = []
    for _ in range(rounds):
        target.unlink(missing_ok=True)
        began = time.perf_counter()
        failed = peer.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
        times.append(time.perf_counter() - began)
        if failed:
            raise RuntimeError("llama.cpp could not quantise the checkpoint")
    target.unlink()
    return times


def _write_gguf(checkpoint: Checkpoint, path: Path) -> None:
    import gguf  # type: ignore[import-not-found, unused-ignore]  # a peer, installed only to be measured

    config = checkpoint.config
    mixture = "num_experts" in config
    writer = gguf.GGUFWriter(path, "qwen3moe" if mixture else "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if mixture:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    stacks: dict[str, list[npt.NDArray[np.uint16]]] = defaultdict(list)
    for name, shape, words in checkpoint.tensors():
        short = _gguf_name(name)
        if ".experts." in name:
            stacks[short].append(words.reshape(shape))
            if len(stacks[short]) == config["num_experts"]:
                _add(writer, short, np.stack(stacks.pop(short)))
        else:
            _add(writer, short, _plain(words, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _plain(words: Words, shape: Shape) -> npt.NDArray[np.uint16]:
    return words.reshape(shape)


def _add(writer: object, name: str, words: npt.NDArray[np.uint16]) -> None:
    import gguf

    if words.ndim == 1 or name.endswith("ffn_gate_inp.weight"):
        values = (words.astype(np.uint32) << np.uint32(16)).view(np.float32)
        writer.add_tensor(name, values)  # type: ignore[attr-defined] # gguf has no types
    else:
        writer.add_tensor(name, words, raw_dtype=gguf.GGMLQuantizationType.BF16)  # type: ignore[attr-defined] # as above


_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate": "ffn_gate_inp",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def _gguf_name(name: str) -> str:
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in whole:
        return f"{whole[stem]}.weight"
    _, _, layer, rest = stem.split(".", 3)
    if rest.startswith("mlp.experts."):
        return f"blk.{layer}.ffn_{rest.rsplit('.', 1)[1].removesuffix('_proj')}_exps.weight"
    return f"blk.{layer}.{_NAMES[rest]}.weight"
