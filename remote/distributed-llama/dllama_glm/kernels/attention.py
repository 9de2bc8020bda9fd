"""Attention over the cache of keys and values, four query rows of one KV head at a time.

The cache is laid out for this. Keys: for each KV head tiles of 16 positions, each [head_dim][16], so that a register
holds one dimension of 16 positions and no sum runs across lanes. Values: for each KV head chunks of 16 dimensions,
each [capacity][16]. Numbers are halves or, in the exact path, float32.
"""

from typing import Any

import numpy as np
from numba import prange

from dllama_glm.kernels.arithmetic import add, exponential, fill_16, fma, greater, largest, multiply, subtract, total
from dllama_glm.kernels.build import inlined, kernel
from dllama_glm.kernels.memory import (
    load_f32,
    load_f32x16,
    load_halves,
    load_i64,
    store,
    store_half,
    store_halves,
)
from dllama_glm.kernels.structures import model_at, room_at

_SMALL = 1 << 17  # multiplications below which waking other threads costs more than it saves
_LOWEST = np.float32(-3.0e38)


@inlined
def _load(address: int, wide: int) -> Any:
    return load_f32x16(address) if wide else load_halves(address)


@kernel("void(int64, int64, int64, int64, int64)")
def put_key(model_address: int, layer: int, head: int, position: int, k: int) -> None:
    """Store a key (float32, padded) into its tile."""
    m = model_at(model_address)
    size = np.int64(4 if m.wide else 2)
    first = (layer * m.kv_heads + head) * m.capacity + position // 16 * 16
    at = m.keys + (first * m.padded + position % 16) * size
    for i in range(m.padded):
        if m.wide:
            store(at + 64 * i, load_f32(k + 4 * i))
        else:
            store_half(at + 32 * i, load_f32(k + 4 * i))


@kernel("void(int64, int64, int64, int64, int64)")
def put_value(model_address: int, layer: int, head: int, position: int, v: int) -> None:
    """Store a value (float32, padded) into its chunks."""
    m = model_at(model_address)
    size = np.int64(4 if m.wide else 2)
    for i in range(0, m.padded, 16):
        chunk = (layer * m.kv_heads + head) * m.padded + i
        at = m.values + (chunk * m.capacity + 16 * position) * size
        if m.wide:
            store(at, load_f32x16(v + 4 * i))
        else:
            store_halves(at, load_f32x16(v + 4 * i))


@kernel("void(int64, int64, int64, int64, int64, int64, int64, int64, int64)")
def score_four(  # noqa: PLR0913, PLR0917 - a kernel gets addresses, each by itself
    keys: int, wide: int, padded: int, q0: int, q1: int, q2: int, q3: int, out: int, step: int
) -> None:
    """Four query rows by one tile of keys; results `step` bytes apart."""
    a0 = fill_16(np.float32(0.0))
    a1, a2, a3 = a0, a0, a0
    size = np.int64(64 if wide else 32)
    for i in range(padded):
        k = _load(keys + size * i, wide)
        a0 = fma(fill_16(load_f32(q0 + 4 * i)), k, a0)
        a1 = fma(fill_16(load_f32(q1 + 4 * i)), k, a1)
        a2 = fma(fill_16(load_f32(q2 + 4 * i)), k, a2)
        a3 = fma(fill_16(load_f32(q3 + 4 * i)), k, a3)
    store(out, a0)
    store(out + step, a1)
    store(out + 2 * step, a2)
    store(out + 3 * step, a3)


@kernel("void(int64, int64, int64, int64, int64, int64, int64)")
def score_two(keys: int, wide: int, padded: int, q0: int, q1: int, out: int, step: int) -> None:
    """Two query rows by one tile of keys."""
    a0 = fill_16(np.float32(0.0))
    a1 = a0
    size = np.int64(64 if wide else 32)
    for i in range(padded):
        k = _load(keys + size * i, wide)
        a0 = fma(fill_16(load_f32(q0 + 4 * i)), k, a0)
        a1 = fma(fill_16(load_f32(q1 + 4 * i)), k, a1)
    store(out, a0)
    store(out + step, a1)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def mix_four(values: int, wide: int, span: int, shares: int, step: int, out: int) -> None:
    """16 dimensions of `span` positions, weighed by four rows of shares; four results of 64 bytes."""
    a0 = fill_16(np.float32(0.0))
    a1, a2, a3 = a0, a0, a0
    size = np.int64(64 if wide else 32)
    for p in range(span):
        v, at = _load(values + size * p, wide), shares + 4 * p
        a0 = fma(fill_16(load_f32(at)), v, a0)
        a1 = fma(fill_16(load_f32(at + step)), v, a1)
        a2 = fma(fill_16(load_f32(at + 2 * step)), v, a2)
        a3 = fma(fill_16(load_f32(at + 3 * step)), v, a3)
    store(out, a0)
    store(out + 64, a1)
    store(out + 128, a2)
    store(out + 192, a3)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def mix_two(values: int, wide: int, span: int, shares: int, step: int, out: int) -> None:
    """The same for two rows: two sums each, as one would wait for itself."""
    a0 = fill_16(np.float32(0.0))
    a1, b0, b1 = a0, a0, a0
    size = np.int64(64 if wide else 32)
    for p in range(0, span, 2):
        v, w, at = _load(values + size * p, wide), _load(values + size * (p + 1), wide), shares + 4 * p
        a0 = fma(fill_16(load_f32(at)), v, a0)
        a1 = fma(fill_16(load_f32(at + step)), v, a1)
        b0 = fma(fill_16(load_f32(at + 4)), w, b0)
        b1 = fma(fill_16(load_f32(at + step + 4)), w, b1)
    store(out, add(a0, b0))
    store(out + 64, add(a1, b1))


@kernel("float32(int64, int64, int64, int64, float32)")
def softmax(scores: int, span: int, first: int, last: int, scale: float) -> Any:
    """Scores as shares, not yet divided by their sum, which is returned; those before `first` and from `last` on: 0."""
    for p in range(first):
        store(scores + 4 * p, _LOWEST)
    for p in range(last, span):
        store(scores + 4 * p, _LOWEST)
    top = fill_16(_LOWEST)
    for p in range(0, 4 * span, 64):
        top = greater(top, load_f32x16(scores + p))
    factor, highest = fill_16(scale), fill_16(largest(top))
    sums = fill_16(np.float32(0.0))
    for p in range(0, 4 * span, 64):
        share = exponential(multiply(subtract(load_f32x16(scores + p), highest), factor))
        store(scores + p, share)
        sums = add(sums, share)
    return total(sums)


@inlined
def _first_seen(window: int, position: int) -> int:
    return max(0, position - window + 1)


@kernel("void(int64, int64, int64, int64, int64, int64, int64)")
def attend_rows(
    model_address: int, room_address: int, layer: int, head: int, row: int, position: int, scratch: int
) -> None:
    """Up to four query rows of a KV head from `row` on; rows count its query heads, token by token."""
    m, r = model_at(model_address), room_at(room_address)
    first = load_i64(m.first_heads + 8 * head)
    group = load_i64(m.first_heads + 8 * head + 8) - first
    last = min(row + 4, r.tokens * group) - 1
    two = last - row < 2
    start = _first_seen(m.window, position + row // group) // 16 * 16
    span = (position + last // group + 16 - start) // 16 * 16
    size, step = np.int64(4 if m.wide else 2), 4 * span
    width, line = 4 * m.padded, (layer * m.kv_heads + head) * m.capacity
    q0 = r.q + ((row // group) * m.heads + first + row % group) * width
    n1, n2 = min(row + 1, last), min(row + 2, last)
    q1 = r.q + ((n1 // group) * m.heads + first + n1 % group) * width
    q2 = r.q + ((n2 // group) * m.heads + first + n2 % group) * width
    q3 = r.q + ((last // group) * m.heads + first + last % group) * width
    sums, found, shares = scratch, scratch + 64, scratch + 320
    for p in range(0, span, 16):
        keys = m.keys + (line + start + p) * m.padded * size
        if two:
            score_two(keys, m.wide, m.padded, q0, q1, shares + 4 * p, step)
        else:
            score_four(keys, m.wide, m.padded, q0, q1, q2, q3, shares + 4 * p, step)
    rows = 2 if two else 4
    for k in range(rows):
        seen = position + min(row + k, last) // group
        begin = _first_seen(m.window, seen) - start
        store(sums + 4 * k, softmax(shares + k * step, span, begin, seen + 1 - start, m.scale))
    for i in range(0, m.padded, 16):
        values = m.values + (line * m.padded + i * m.capacity + 16 * start) * size
        if two:
            mix_two(values, m.wide, span, shares, step, found)
        else:
            mix_four(values, m.wide, span, shares, step, found)
        for k in range(min(rows, last - row + 1)):
            n = row + k
            out = r.mixed + ((n // group) * m.heads + first + n % group) * 4 * m.head_dim + 4 * i
            factor = np.float32(1.0) / load_f32(sums + 4 * k)
            for d in range(0, 4 * min(16, m.head_dim - i), 4):
                store(out + d, load_f32(found + 64 * k + d) * factor)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def attend_share(model_address: int, room_address: int, layer: int, position: int, part: int, parts: int) -> None:
    """Every `parts`-th group of four rows, over all KV heads: later rows see more, so neighbours are dealt out."""
    m, r = model_at(model_address), room_at(room_address)
    number = 0
    for head in range(m.kv_heads):
        group = load_i64(m.first_heads + 8 * head + 8) - load_i64(m.first_heads + 8 * head)
        for row in range(0, r.tokens * group, 4):
            if number % parts == part:
                attend_rows(model_address, room_address, layer, head, row, position, m.scratch + part * m.scratch_size)
            number += 1


@kernel("void(int64, int64, int64, int64)", parallel=True)
def attend_by_threads(model_address: int, room_address: int, layer: int, position: int) -> None:
    """The same on all threads."""
    threads = model_at(model_address).threads
    for part in prange(threads):
        attend_share(model_address, room_address, layer, position, part, threads)


@kernel("void(int64, int64, int64, int64)")
def attend(model_address: int, room_address: int, layer: int, position: int) -> None:
    """Causal attention of a room's query rows, whose first token stands at `position`, into its `mixed`."""
    m, r = model_at(model_address), room_at(room_address)
    work = r.tokens * m.heads * m.padded * min(position + r.tokens, m.window)
    if m.threads == 1 or work < _SMALL:
        attend_share(model_address, room_address, layer, position, 0, 1)
    else:
        attend_by_threads(model_address, room_address, layer, position)


def scratch_bytes(capacity: int) -> int:
    """How much room a thread needs for a cache of so many positions."""
    return 16 * (capacity + 32) + 320
