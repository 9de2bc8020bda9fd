"""The halves of a layer, and what stands before and behind the layers: the operations that a device is asked for.

Each takes the addresses of the model's facts, the layer's weights and the room to work in (`structures.py`).
"""

import numpy as np

from dllama_glm.kernels.attention import attend
from dllama_glm.kernels.build import inlined, kernel
from dllama_glm.kernels.jobs import JOB_BYTES, job_at
from dllama_glm.kernels.memory import load_i64, store
from dllama_glm.kernels.products import multiply_all
from dllama_glm.kernels.rooms import (
    CHOOSE,
    COMBINE,
    GATE,
    HEADS,
    MIXED,
    NORM_ATTENTION,
    NORM_MLP,
    SETTLE_ATTENTION,
    SETTLE_MLP,
    norm_row,
    rows,
    scale_row,
)
from dllama_glm.kernels.routing import order_slots
from dllama_glm.kernels.rows import BYTES, F32_ROWS, expand
from dllama_glm.kernels.structures import EXPERT_BYTES, expert_at, layer_at, model_at, room_at

__all__ = ["attend", "attend_inputs", "attend_output", "contract", "embed", "expand_slots", "head", "route", "settle"]


@inlined
def _set(address: int, weights: int, stride: int, rows: int, columns: int, tokens: int) -> None:
    job = job_at(address)
    job.weights, job.stride, job.rows, job.columns, job.tokens = weights, stride, rows, columns, tokens


@inlined
def _set_x(address: int, index: int, x: int, x_stride: int, scales: int, scale_stride: int) -> None:
    job = job_at(address)
    job.index, job.x, job.x_stride = index, x, x_stride
    job.scales, job.offsets, job.scale_stride = scales, scales + scale_stride // 2, scale_stride


@inlined
def _set_out(address: int, out: int, out_stride: int) -> None:
    job = job_at(address)
    job.out, job.out_stride = out, out_stride


@inlined
def _take_rows(job: int, r: object, kind: int, index: int) -> None:
    """The job multiplies the normed rows, as bytes where products are of bytes."""
    if kind >= BYTES:
        _set_x(job, index, r.codes, r.row, r.scales, scale_row(r.row))  # type: ignore[attr-defined] # a structure
    else:
        _set_x(job, index, r.normed, 4 * r.row, 0, 0)  # type: ignore[attr-defined] # as above


@inlined
def _run(m: object, jobs: int, count: int, kind: int) -> None:
    multiply_all(jobs, count, kind, m.threads, m.scratch, m.scratch_size)  # type: ignore[attr-defined] # as above


@kernel("void(int64, int64, int64, int64, int64, int64, int64)")
def embed(table: int, stride: int, kind: int, ids: int, count: int, dim: int, out: int) -> None:
    """The table's rows of these tokens (int64) as float32."""
    for t in range(count):
        expand(kind, table + load_i64(ids + 8 * t) * stride, dim, out + 4 * t * dim)


@kernel("void(int64, int64, int64, int64)")
def attend_inputs(model_address: int, layer_address: int, room_address: int, position: int) -> None:
    """Norm, queries, keys and values of the residual stream; queries into the room, the others into the cache."""
    m, w, r = model_at(model_address), layer_at(layer_address), room_at(room_address)
    rows(NORM_ATTENTION, model_address, layer_address, room_address, position)
    q, kv = m.heads * m.head_dim, m.kv_heads * m.head_dim
    stride = 4 * (q + 2 * kv)
    for place in range(3):
        job = r.jobs + JOB_BYTES * place
        weights = w.q if place == 0 else w.k if place == 1 else w.v
        _set(job, weights, w.stride, q if place == 0 else kv, m.dim, r.tokens)
        _take_rows(job, r, m.kind, 0)
        _set_out(job, r.qkv + 4 * (0 if place == 0 else q + (place - 1) * kv), stride)
    _run(m, r.jobs, 3, m.kind)
    rows(HEADS, model_address, layer_address, room_address, position)


@kernel("void(int64, int64, int64, int64)")
def attend_output(model_address: int, layer_address: int, room_address: int, alone: int) -> None:
    """The heads' results through the output matrix into `partial`; `alone`: and from there into the stream."""
    m, w, r = model_at(model_address), layer_at(layer_address), room_at(room_address)
    rows(MIXED, model_address, layer_address, room_address, 0)
    width = m.heads * m.head_dim
    _set(r.jobs, w.o, w.o_stride, m.dim, width, r.tokens)
    if m.kind >= BYTES:
        _set_x(r.jobs, 0, r.codes, r.row, r.scales, scale_row(r.row))
    else:
        _set_x(r.jobs, 0, r.mixed, 4 * width, 0, 0)
    _set_out(r.jobs, r.partial, 4 * m.dim)
    _run(m, r.jobs, 1, m.kind)
    if alone:
        rows(SETTLE_ATTENTION, model_address, layer_address, room_address, 0)


@kernel("void(int64, int64, int64)")
def route(model_address: int, layer_address: int, room_address: int) -> None:
    """Norm, and in a mixture the router's choice of experts, in float32, and the slots in their order."""
    m, w, r = model_at(model_address), layer_at(layer_address), room_at(room_address)
    rows(NORM_MLP, model_address, layer_address, room_address, 0)
    if w.router:
        _set(r.jobs, w.router, 4 * m.dim, m.experts, m.dim, r.tokens)
        _set_x(r.jobs, 0, r.normed, 4 * r.row, 0, 0)
        _set_out(r.jobs, r.logits, 4 * m.experts)
        _run(m, r.jobs, 1, F32_ROWS)
        rows(CHOOSE, model_address, layer_address, room_address, 0)
        order_slots(model_address, room_address)


@kernel("int64(int64, int64, int64, int64)")
def expert_jobs(model_address: int, layer_address: int, room_address: int, down: int) -> int:
    """List the products of the experts that have slots: gate and up, or down. Returns how many there are."""
    m, w, r = model_at(model_address), layer_at(layer_address), room_at(room_address)
    count = 0
    for e in range(m.experts + m.shared if w.router else 1):
        expert = expert_at(w.experts + EXPERT_BYTES * e)
        first = load_i64(r.start + 8 * e) if w.router else 0
        tokens = (load_i64(r.start + 8 * e + 8) if w.router else r.tokens) - first
        if not tokens:
            continue
        job, width = r.jobs + JOB_BYTES * count, expert.width
        gates, scales = r.gated + 8 * first * r.slot_row, scale_row(r.slot_row)
        if down:
            _set(job, expert.down, expert.down_stride, m.dim, width, tokens)
            if m.kind >= BYTES:
                _set_x(job, 0, r.slot_codes + first * r.slot_row, r.slot_row, r.slot_scales + first * scales, scales)
            else:
                _set_x(job, 0, gates, 8 * r.slot_row, 0, 0)
            _set_out(job, r.y + 4 * first * m.dim, 4 * m.dim)
            for i in range(0 if width else tokens * m.dim):  # a rank that keeps no part of the experts adds nothing
                store(r.y + 4 * (first * m.dim + i), np.float32(0.0))
            count += 1
            continue
        index = r.token + 8 * first if w.router else 0
        for up in range(2):
            job = r.jobs + JOB_BYTES * (count + up)
            _set(job, expert.up if up else expert.gate, expert.stride, width, m.dim, tokens)
            _take_rows(job, r, m.kind, index)
            _set_out(job, gates + 4 * r.slot_row * up, 8 * r.slot_row)
        count += 2
    return count


@kernel("void(int64, int64, int64)")
def expand_slots(model_address: int, layer_address: int, room_address: int) -> None:
    """silu(gate) * up of every slot."""
    m, r = model_at(model_address), room_at(room_address)
    _run(m, r.jobs, expert_jobs(model_address, layer_address, room_address, 0), m.kind)
    rows(GATE, model_address, layer_address, room_address, 0)


@kernel("void(int64, int64, int64, int64)")
def contract(model_address: int, layer_address: int, room_address: int, alone: int) -> None:
    """The slots' results through their down matrices, by their shares, into `partial`; `alone`: and into the stream."""
    m, r = model_at(model_address), room_at(room_address)
    _run(m, r.jobs, expert_jobs(model_address, layer_address, room_address, 1), m.kind)
    rows(COMBINE, model_address, layer_address, room_address, 0)
    if alone:
        rows(SETTLE_MLP, model_address, layer_address, room_address, 0)


@kernel("void(int64, int64, int64, int64)")
def settle(model_address: int, layer_address: int, room_address: int, mlp: int) -> None:
    """Add `partial`, which all ranks have summed up, to the residual stream."""
    rows(SETTLE_MLP if mlp else SETTLE_ATTENTION, model_address, layer_address, room_address, 0)


@kernel("void(int64, int64, int64, int64, int64, int64, int64, int64)")
def head(  # noqa: PLR0913, PLR0917 - a kernel gets addresses, each by itself
    model_address: int, room_address: int, weight: int, weights: int, stride: int, width: int, first: int, out: int
) -> None:
    """Logits [tokens from `first` on, width] of the residual stream."""
    m, r = model_at(model_address), room_at(room_address)
    for t in range(first, r.tokens):
        norm_row(model_address, room_address, weight, t)
    _set(r.jobs, weights, stride, width, m.dim, r.tokens - first)
    if m.kind >= BYTES:
        scales = scale_row(r.row)
        _set_x(r.jobs, 0, r.codes + first * r.row, r.row, r.scales + first * scales, scales)
    else:
        _set_x(r.jobs, 0, r.normed + 4 * first * r.row, 4 * r.row, 0, 0)
    _set_out(r.jobs, out, 4 * width)
    _run(m, r.jobs, 1, m.kind)
