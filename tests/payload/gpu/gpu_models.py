"""Small models with random weights, and devices that compute them, for the card's tests."""

import os
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from dllama_glm.devices.card import Card
from dllama_glm.devices.cuda import CudaDevice
from dllama_glm.devices.reference import ReferenceDevice
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.parallel.shard import shard
from dllama_glm.runtime import weights
from dllama_glm.runtime.architecture import Architecture, Rotary, Routing
from dllama_glm.runtime.device import Device, Group
from dllama_glm.runtime.matrix import F32, Q40, Matrix
from dllama_glm.runtime.model import Model

from tests.payload.runtime.stored_blocks import encode, row_bytes

torch.set_num_threads(1)

ON_CARD = os.environ.get("DLLAMA_TEST_DEVICE") == "cuda"
PLACE = "cuda:0" if ON_CARD else "cpu"
CAPACITY = 24
CARD = Card(0, "a card", PLACE, 80, 1 << 40, 1 << 40, details={"torch": "", "triton": "", "cuda": ""})
# Few and large programs: the interpreter takes its time for each.
TILES = {
    "inputs": {"pairs": 64, "blocks": 8, "warps": 4},
    "attention": {"positions": 16, "splits": 2, "warps": 4},
    "output": {"rows": 128, "blocks": 4, "warps": 4},
    "route": {"warps": 4},
    "expand": {"rows": 64, "blocks": 4, "warps": 4},
    "contract": {"rows": 128, "blocks": 4, "warps": 4},
    "head": {"rows": 128, "blocks": 4, "warps": 4},
    "panel": {"tokens": 16, "rows": 128, "depth": 64, "warps": 4, "stages": 2},
    "group": {"tokens": 16, "rows": 128, "depth": 64, "warps": 4, "stages": 2},
}

MOE = Architecture(
    name="glm4_moe", dim=160, layers=2, heads=4, kv_heads=2, head_dim=32, dense_width=224, expert_width=96,
    shared_experts=2, first_dense_layers=1, vocab_size=77, max_seq_len=96, norm_eps=1e-5,
    rotary=Rotary(1e4, 16, interleaved=False),
    routing=Routing(8, 3, sigmoid=True, normalise=True, scale=1.7, groups=4, groups_kept=2, corrected=True),
    attention_bias=True, qk_norm=True, post_norms=False, window=96,
)  # fmt: skip
DENSE = replace(
    MOE, name="glm4", layers=1, routing=None, shared_experts=0, first_dense_layers=0, heads=2, kv_heads=2, head_dim=48,
    rotary=Rotary(1e4, 24, interleaved=True), attention_bias=False, qk_norm=False, post_norms=True, window=7,
)  # fmt: skip
SOFTMAX = replace(
    MOE, name="qwen3_moe", layers=1, shared_experts=0, first_dense_layers=0, attention_bias=False,
    routing=Routing(6, 2, sigmoid=False, normalise=True),
)  # fmt: skip
TINY = replace(MOE, dim=64, heads=2, kv_heads=1, expert_width=32, dense_width=64, shared_experts=1)


class RandomTensors:
    """Implements `weights.TensorSource`: random numbers, matrices as Q40; the same names give the same numbers."""

    def __init__(self, architecture: Architecture) -> None:
        a = self._a = architecture
        self._q, self._kv = a.heads * a.head_dim, a.kv_heads * a.head_dim

    def matrix(self, name: str) -> Matrix:
        a, part = self._a, name.split(".")[-2]
        width = a.expert_width * a.shared_experts if "shared" in name else a.expert_width
        width = width if "expert" in name else a.dense_width
        rows = {"q_proj": self._q, "k_proj": self._kv, "v_proj": self._kv, "o_proj": a.dim, "down_proj": a.dim}
        columns = {"o_proj": self._q, "down_proj": width}.get(part, a.dim)
        if part in {"embed_tokens", "lm_head"}:
            return stored(self._numbers(name, (a.vocab_size, a.dim)), F32 if part == "embed_tokens" else Q40)
        if part == "gate":
            return stored(self._numbers(name, (a.routing.experts, a.dim)), F32)
        return stored(self._numbers(name, (rows.get(part, width), columns)), Q40)

    def vector(self, name: str) -> np.ndarray:
        a, part = self._a, name.split(".")[-2]
        sizes = {"q_norm": a.head_dim, "k_norm": a.head_dim, "q_proj": self._q, "k_proj": self._kv, "v_proj": self._kv}
        size = a.routing.experts if "correction" in name else sizes.get(part, a.dim)
        return self._numbers(name, (size,)) * 1.3 + np.float32(1.0 if "norm" in name else 0.0)

    def _numbers(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        seed = np.frombuffer(name.encode(), np.uint8)
        return (np.random.default_rng(seed).standard_normal(shape) * 0.15).astype(np.float32)


def stored(values: np.ndarray, kind: int) -> Matrix:
    """A matrix as it lies in a file, at an odd place."""
    raw = np.frombuffer(b"\x00" * 3 + encode(values, kind), np.uint8)
    rows, columns = values.shape
    return Matrix(raw, kind, rows, columns, 3, row_bytes(columns, kind))


def reference(architecture: Architecture) -> Device:
    """All of a model in numpy."""
    part = shard(architecture, 0, 1)
    kept = weights.load(RandomTensors(architecture), architecture, part)
    made = ReferenceDevice(kept, architecture, part, SingleGroup(), CAPACITY)
    return cast("Device", made)  # all but `described`, which is the class's


def device(
    architecture: Architecture, group: Group | None = None, *, exact: bool = False, **options: Any
) -> CudaDevice:
    """A rank's part of a model, on the card or interpreted."""
    group = group or SingleGroup()
    part = shard(architecture, group.rank, group.ranks)
    kept = weights.load(RandomTensors(architecture), architecture, part)
    options.setdefault("tiles", TILES)
    return CudaDevice(kept, architecture, part, group, CAPACITY, card=CARD, exact=exact, **options)


def model_of(architecture: Architecture, made: Device, group: Group | None = None) -> Model:
    """A model on a device."""
    group = group or SingleGroup()
    first = shard(architecture, group.rank, group.ranks).vocab.start
    return Model(architecture, made, group, first=first, capacity=CAPACITY)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest, as a share of the largest number; infinite where something is no number."""
    worst = np.abs(found - expected).max() / np.abs(expected).max()
    return float(worst) if np.isfinite(worst) else float("inf")
