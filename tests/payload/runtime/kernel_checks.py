# ruff: noqa: T201 - a script whose output is its interface
"""Compares every kernel with numpy, at the level that $DLLAMA_SIMD names: prints {check: [error, bound]} as JSON.

A process of its own, since the level is chosen when the kernels are imported. With `--without-instruction` the level
may be one that this processor lacks: its registers, panels and order of bytes as ever, and the one instruction that is
missing put together from others.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import llvmlite.binding as llvm
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "remote" / "distributed-llama"))

from dllama_glm.quantise.cache import loops_cache

if "--without-instruction" in sys.argv:
    asked = os.environ.pop("DLLAMA_SIMD")
    from dllama_glm.kernels import level

    os.environ["DLLAMA_SIMD"] = asked
    every = dict.fromkeys(set().union(*level.NEEDS.values()), True)
    with mock.patch.object(llvm, "get_host_cpu_features", return_value=every):
        importlib.reload(level)
    from dllama_glm.kernels import dot

    vars(dot).update(vnni=dot.plain, neon=partial(dot.plain, signed=True))

with loops_cache():
    from dllama_glm.devices.cpu import CpuDevice
    from dllama_glm.kernels import activations, level, products
from dllama_glm.devices.reference import ReferenceDevice
from dllama_glm.devices.rooms import aligned
from dllama_glm.kernels.build import native
from dllama_glm.kernels.jobs import JOB
from dllama_glm.kernels.rows import BYTES
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.parallel.shard import shard
from dllama_glm.runtime import weights
from dllama_glm.runtime.architecture import Architecture, Rotary, Routing
from dllama_glm.runtime.device import At
from dllama_glm.runtime.matrix import F32, Q40, Q80, Matrix

from tests.payload.runtime.stored_blocks import encode, row_bytes

Check = tuple[str, float, float]
RANDOM = np.random.default_rng(11)

MOE = Architecture(
    name="glm4_moe", dim=160, layers=2, heads=6, kv_heads=2, head_dim=32, dense_width=224, expert_width=96,
    shared_experts=2, first_dense_layers=1, vocab_size=77, max_seq_len=96, norm_eps=1e-5,
    rotary=Rotary(1e4, 16, interleaved=False),
    routing=Routing(8, 3, sigmoid=True, normalise=True, scale=1.7, groups=4, groups_kept=2, corrected=True),
    attention_bias=True, qk_norm=True, post_norms=False, window=96,
)  # fmt: skip
DENSE = replace(
    MOE, name="glm4", routing=None, shared_experts=0, first_dense_layers=0, heads=5, kv_heads=5,
    rotary=Rotary(1e4, 24, interleaved=True), attention_bias=False, qk_norm=False, post_norms=True, window=19,
)  # fmt: skip
SOFTMAX = replace(
    MOE, name="qwen3_moe", shared_experts=0, first_dense_layers=0, heads=4, kv_heads=2, attention_bias=False,
    routing=Routing(8, 2, sigmoid=False, normalise=True),
)  # fmt: skip


class RandomTensors:
    """Implements `weights.TensorSource`: random numbers, stored as `kind`."""

    def __init__(self, architecture: Architecture, kind: int) -> None:
        a = architecture
        q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
        self._kind = kind
        self._rows = {"q_proj": q, "k_proj": kv, "v_proj": kv, "o_proj": a.dim, "down_proj": a.dim}
        self._a, self._q, self._kv = a, q, kv

    def matrix(self, name: str) -> Matrix:
        a, part = self._a, name.split(".")[-2]
        width = a.expert_width * a.shared_experts if "shared" in name else a.expert_width
        width = width if "expert" in name else a.dense_width
        rows = self._rows.get(part, width)
        columns = {"o_proj": self._q, "down_proj": width}.get(part, a.dim)
        kind = self._kind
        if part in {"embed_tokens", "lm_head"}:
            rows, kind = a.vocab_size, F32 if part == "embed_tokens" else kind
        if part == "gate":
            rows, kind = a.routing.experts, F32
        return stored(RANDOM.standard_normal((rows, columns)) * 0.15, kind)

    def vector(self, name: str) -> np.ndarray:
        part = name.split(".")[-2]
        size = {"q_norm": self._a.head_dim, "k_norm": self._a.head_dim, "q_proj": self._q}.get(part, self._a.dim)
        size = self._kv if part in {"k_proj", "v_proj"} else size
        size = self._a.routing.experts if "correction" in name else size
        return (RANDOM.standard_normal(size) * 0.2 + (1.0 if "norm" in name else 0.0)).astype(np.float32)


def stored(values: np.ndarray, kind: int) -> Matrix:
    raw = np.frombuffer(b"\x00" * 3 + encode(values.astype(np.float32), kind), np.uint8)  # odd, as in a file
    rows, columns = values.shape
    return Matrix(raw, kind, rows, columns, 3, row_bytes(columns, kind))


def product_checks() -> Iterator[Check]:
    """Rows and columns that leave something over in every loop, one token and many, one thread and three."""
    multiply = native(products.multiply_all)
    for kind in range(4):
        for columns in (96, 480):
            matrix = stored(RANDOM.standard_normal((531, columns)) * 0.1, kind)
            for tokens in (1, 3, 9, 700):
                for by in (0, BYTES) if kind in {Q40, Q80} else (0,):
                    job, keep, x = _job(matrix, tokens, by)
                    size = products.scratch_bytes(512)
                    scratch = aligned((3 * size,), np.uint8)
                    found = []
                    for threads in (1, 3):
                        keep["out"][:] = np.nan
                        multiply(job.ctypes.data, 1, kind + by, threads, scratch.ctypes.data, size)
                        found.append(keep["out"].copy())
                    expected = x @ matrix.to_float().T
                    name = (
                        f"product of kind {kind} by {'bytes' if by else 'floats'}, {columns} columns, {tokens} tokens"
                    )
                    yield name, _error(found[0], expected), 2e-6
                    yield f"{name}: threads change it", float((found[0] != found[1]).sum()), 0.0


def extreme_checks() -> Iterator[Check]:
    """The largest codes by the largest values: 16-bit lanes, where a level has them, hold what they have to hold."""
    multiply, random = native(products.multiply_all), np.random.default_rng(12)
    ends = np.where(random.random((33, 256)) < 0.5, -8.0, 7.0)
    ends[:, :32] = -8.0  # blocks of one sign add up furthest
    ends[:, 32:64], ends[:, 32] = 7.0, -8.0
    for kind in (Q40, Q80):
        matrix = stored(ends, kind)
        for tokens in (1, 9):
            job, keep, x = _job(matrix, tokens, BYTES, np.sign(random.standard_normal((tokens, 256)) + 3.0))
            size = products.scratch_bytes(512)
            scratch = aligned((size,), np.uint8)  # held: what is freed while a kernel writes to it is somebody else's
            multiply(job.ctypes.data, 1, kind + BYTES, 1, scratch.ctypes.data, size)
            yield f"extremes of kind {kind}, {tokens} tokens", _error(keep["out"], x @ matrix.to_float().T), 2e-6


def _job(
    matrix: Matrix, tokens: int, by: int, values: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    x = RANDOM.standard_normal((tokens, matrix.columns)) if values is None else values
    x = x.astype(np.float32)
    blocks = matrix.columns // 32
    keep: dict[str, Any] = {
        "x": x, "codes": aligned((tokens, matrix.columns), np.int8), "scales": aligned((tokens, 2, blocks), np.float32),
        "out": np.empty((tokens, matrix.rows), np.float32), "matrix": matrix,
    }  # fmt: skip
    if by:
        x = quantised(keep, paired=matrix.kind == Q40)
    job = np.zeros(1, JOB)
    job["weights"], job["stride"], job["rows"], job["columns"] = (
        matrix.address,
        matrix.stride,
        matrix.rows,
        matrix.columns,
    )
    source = keep["codes" if by else "x"]
    job["tokens"], job["x"], job["x_stride"] = tokens, source.ctypes.data, source.strides[0]
    job["scales"], job["scale_stride"] = keep["scales"].ctypes.data, 8 * blocks
    job["offsets"] = keep["scales"].ctypes.data + 4 * blocks
    job["out"], job["out_stride"] = keep["out"].ctypes.data, 4 * matrix.rows
    return job, keep, x


def quantised(keep: dict[str, Any], *, paired: bool) -> np.ndarray:
    """Let the kernel cut x into bytes; return what they stand for."""
    x, codes, scales = keep["x"], keep["codes"], keep["scales"]
    for row in range(len(x)):
        places = codes[row].ctypes.data, scales[row].ctypes.data, scales[row, 1].ctypes.data
        native(activations.quantise)(x[row].ctypes.data, x.shape[1], int(paired), *places)
    blocks = codes.reshape(len(x), -1, 32).copy()
    whole = x.shape[1] // 128 * 4 if paired else 0
    if whole:
        fours = codes[:, : 32 * whole].reshape(len(x), -1, 2, 4, 16)
        blocks[:, :whole] = fours.transpose(0, 1, 3, 2, 4).reshape(len(x), whole, 32)
    return (blocks * scales[:, 0, :, None]).reshape(x.shape)


def activation_checks() -> Iterator[Check]:
    """Norm, gate, and the cutting into bytes, with widths that leave something over."""
    for width in (160, 71):
        x, y = ((RANDOM.standard_normal(width) * spread).astype(np.float32) for spread in (30, 1))
        out = np.empty_like(x)
        native(activations.norm)(x.ctypes.data, y.ctypes.data, width, 1e-5, out.ctypes.data)
        yield f"norm of {width}", _error(out, x / np.sqrt((x * x).mean() + np.float32(1e-5)) * y), 1e-6
        native(activations.gate)(x.ctypes.data, y.ctypes.data, width, out.ctypes.data)
        wide = x.astype(np.float64)
        yield f"gate of {width}", _error(out, wide / (1 + np.exp(-wide)) * y), 1e-6
    x = np.concatenate([RANDOM.standard_normal((3, 288)), np.zeros((1, 288)), np.full((1, 288), 1e-38)])
    for paired in (False, True):
        keep = {"x": x.astype(np.float32), "codes": aligned(x.shape, np.int8), "scales": aligned((5, 2, 9), np.float32)}
        found = quantised(keep, paired=paired)
        step = np.abs(x.reshape(5, 9, 32)).max(axis=2, keepdims=True) / 127
        worst = (np.abs(found - x).reshape(5, 9, 32) - step / 2).max()
        yield f"bytes, paired {paired}: beyond half a step", max(0.0, float(worst)), 1e-6
        sums = keep["codes"].astype(np.int64).sum()
        offsets = keep["scales"][:, 1] / np.where(keep["scales"][:, 0] == 0, 1, keep["scales"][:, 0])
        yield f"bytes, paired {paired}: offsets", abs(float(offsets.sum() + 8 * sums)), 0.5


def device_checks() -> Iterator[Check]:
    """Every operation, given the reference's own input: a prompt that fills tiles unevenly, then single tokens."""
    for architecture in (MOE, DENSE, SOFTMAX):
        for kind, exact in ((F32, True), (Q40, True), (Q40, False), (Q80, False)):
            kept = weights.load(RandomTensors(architecture, kind), architecture, shard(architecture, 0, 1))
            common = (kept, architecture, shard(architecture, 0, 1), SingleGroup(), 96)
            reference, cpu = ReferenceDevice(*common), CpuDevice(*common, threads=2, exact=exact)
            bound = 2e-5 if exact else 0.03
            worst: dict[str, float] = {}
            for position, tokens in ((0, 37), (37, 1), (38, 3), (41, 1)):
                ids = RANDOM.integers(0, architecture.vocab_size, tokens).tolist()
                for name, error in _one_pass(reference, cpu, ids, At(position, tokens)):
                    worst[name] = max(worst.get(name, 0.0), error)
            for name, error in worst.items():
                yield f"{architecture.name}, kind {kind}, {'exact' if exact else 'fast'}: {name}", error, bound


def _one_pass(reference: ReferenceDevice, cpu: CpuDevice, ids: list[int], at: At) -> Iterator[tuple[str, float]]:
    x, room = reference.embed(ids), cpu.embed(ids)
    yield "embed", _error(room["x"], x)
    a = reference._architecture
    for layer in range(a.layers):
        q = reference.attend_inputs(layer, x, at)
        cpu.attend_inputs(layer, room, at)
        yield "attend_inputs", _error(room["q"].reshape(at.tokens, a.heads, -1)[:, :, : a.head_dim], q)
        mixed = reference.attention(layer, q, at)
        cpu.attention(layer, room, at)
        yield "attention", _error(room["mixed"], mixed)
        room["mixed"][:] = mixed
        x = reference.attend_output(layer, mixed, x)
        cpu.attend_output(layer, room, room)
        yield "attend_output", _error(room["x"], x)
        room["x"][:] = x
        routed = reference.route(layer, x)
        hidden = reference.expand(layer, routed)
        x = reference.contract(layer, hidden, routed, x)
        cpu.contract(layer, cpu.expand(layer, cpu.route(layer, room)), room, room)
        yield "route, expand, contract", _error(room["x"], x)
        room["x"][:] = x
    for every in (False, True):
        yield "head", _error(cpu.head(room, every=every), reference.head(x, every=every))


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of the largest number; infinite where something is no number."""
    worst = np.abs(found - expected).max() / np.abs(expected).max()
    return float(worst) if np.isfinite(worst) else float("inf")


if __name__ == "__main__":
    checks = [*product_checks(), *extreme_checks(), *activation_checks(), *device_checks()]
    print(json.dumps({"level": level.LEVEL, "checks": {name: [error, bound] for name, error, bound in checks}}))
