"""What happens to one token's row, or one slot's, between two products; for many of them on several threads."""

import numpy as np
from numba import prange

from dllama_glm.kernels.activations import add_scaled, add_to, gate, norm, quantise
from dllama_glm.kernels.build import inlined, kernel
from dllama_glm.kernels.heads import heads_of_token
from dllama_glm.kernels.memory import load_f32, load_i64, store
from dllama_glm.kernels.routing import choose
from dllama_glm.kernels.rows import BYTES, Q40_ROWS
from dllama_glm.kernels.structures import EXPERT_BYTES, expert_at, layer_at, model_at, room_at

NORM_ATTENTION, HEADS, MIXED, SETTLE_ATTENTION, NORM_MLP, CHOOSE, GATE, COMBINE, SETTLE_MLP = range(9)
_SMALL = 1 << 16  # numbers below which waking other threads costs more than it saves


@inlined
def scale_row(columns: int) -> int:
    """Bytes of a row's scales and offsets."""
    return columns // 32 * 8


@inlined
def _to_bytes(x: int, columns: int, row: int, kind: int, codes: int, scales: int, number: int) -> None:
    """A row as bytes where the products are of bytes; `row` is the widest of its kind, `number` its place."""
    if kind >= BYTES:
        at = scales + number * scale_row(row)
        quantise(x, columns, kind == Q40_ROWS + BYTES, codes + number * row, at, at + scale_row(row) // 2)


@kernel("void(int64, int64, int64, int64)")
def norm_row(model_address: int, room_address: int, weight: int, token: int) -> None:
    """A row of the residual stream into `normed`, and into bytes."""
    m, r = model_at(model_address), room_at(room_address)
    out = r.normed + 4 * token * r.row
    norm(r.x + 4 * token * m.dim, weight, m.dim, m.eps, out)
    _to_bytes(out, m.dim, r.row, m.kind, r.codes, r.scales, token)


@kernel("void(int64, int64, int64, int64)")
def settle_row(model_address: int, room_address: int, weight: int, token: int) -> None:
    """Add a row of `partial`, normed if there is a weight, to the residual stream."""
    m, r = model_at(model_address), room_at(room_address)
    row = r.partial + 4 * token * m.dim
    if weight:
        norm(row, weight, m.dim, m.eps, row)
    add_to(r.x + 4 * token * m.dim, row, m.dim)


@kernel("void(int64, int64, int64, int64)")
def combine_row(model_address: int, layer_address: int, room_address: int, token: int) -> None:
    """What a token's slots made, by their shares, into `partial`; the shared expert's share is 1."""
    m, w, r = model_at(model_address), layer_at(layer_address), room_at(room_address)
    out, each = r.partial + 4 * token * m.dim, m.active + m.shared
    for i in range(0, 4 * m.dim, 4):
        store(out + i, np.float32(0.0))
    for k in range(each if w.router else 1):
        slot = load_i64(r.place + 8 * (token * each + k)) if w.router else token
        one = not w.router or k == m.active
        share = np.float32(1.0) if one else load_f32(r.shares + 4 * (token * m.active + k))
        add_scaled(out, r.y + 4 * slot * m.dim, share, m.dim)


@kernel("void(int64, int64, int64, int64, int64)")
def gate_slots(model_address: int, layer_address: int, room_address: int, part: int, parts: int) -> None:
    """silu(gate) * up for every `parts`-th slot, and that as bytes."""
    m, w, r = model_at(model_address), layer_at(layer_address), room_at(room_address)
    for e in range(m.experts + m.shared if w.router else 1):
        width = expert_at(w.experts + EXPERT_BYTES * e).width
        first = load_i64(r.start + 8 * e) if w.router else 0
        last = load_i64(r.start + 8 * e + 8) if w.router else r.tokens
        for slot in range(first, last):
            if slot % parts == part and width:
                gates = r.gated + 8 * slot * r.slot_row
                gate(gates, gates + 4 * r.slot_row, width, gates)
                _to_bytes(gates, width, r.slot_row, m.kind, r.slot_codes, r.slot_scales, slot)


@kernel("void(int64, int64, int64, int64, int64, int64, int64)")
def rows_share(
    what: int, model_address: int, layer_address: int, room_address: int, position: int, part: int, parts: int
) -> None:
    """Do `what` for every `parts`-th row."""
    m, w, r = model_at(model_address), layer_at(layer_address), room_at(room_address)
    if what == GATE:
        gate_slots(model_address, layer_address, room_address, part, parts)
        return
    for t in range(part, r.tokens, parts):
        if what == NORM_ATTENTION:
            norm_row(model_address, room_address, w.attention_norm, t)
        elif what == HEADS:
            heads_of_token(model_address, layer_address, room_address, position, t, m.scratch + part * m.scratch_size)
        elif what == MIXED:
            width = m.heads * m.head_dim
            _to_bytes(r.mixed + 4 * t * width, width, r.row, m.kind, r.codes, r.scales, t)
        elif what == SETTLE_ATTENTION:
            settle_row(model_address, room_address, w.attention_post, t)
        elif what == NORM_MLP:
            norm_row(model_address, room_address, w.mlp_norm, t)
        elif what == CHOOSE:
            choose(model_address, layer_address, room_address, t)
        elif what == COMBINE:
            combine_row(model_address, layer_address, room_address, t)
        else:
            settle_row(model_address, room_address, w.mlp_post, t)


@kernel("void(int64, int64, int64, int64, int64)", parallel=True)
def rows_by_threads(what: int, model_address: int, layer_address: int, room_address: int, position: int) -> None:
    """Do `what` for all rows on all threads."""
    threads = model_at(model_address).threads
    for part in prange(threads):
        rows_share(what, model_address, layer_address, room_address, position, part, threads)


@kernel("void(int64, int64, int64, int64, int64)")
def rows(what: int, model_address: int, layer_address: int, room_address: int, position: int) -> None:
    """Do `what` for all rows."""
    m, r = model_at(model_address), room_at(room_address)
    if m.threads == 1 or r.tokens * r.row < _SMALL:
        rows_share(what, model_address, layer_address, room_address, position, 0, 1)
    else:
        rows_by_threads(what, model_address, layer_address, room_address, position)
