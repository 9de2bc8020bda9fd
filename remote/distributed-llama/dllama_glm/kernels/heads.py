"""Queries, keys and values on their way from the product to attention: bias, norm, rotation, and into the cache."""

import numpy as np

from dllama_glm.kernels.activations import add_to, norm
from dllama_glm.kernels.arithmetic import fma, multiply, subtract
from dllama_glm.kernels.attention import put_key, put_value
from dllama_glm.kernels.build import kernel
from dllama_glm.kernels.memory import load_f32, load_f32x16, store
from dllama_glm.kernels.structures import layer_at, model_at, room_at


@kernel("void(int64, int64, int64, int64, int64, int64, int64)")
def rotate(x: int, cos: int, sin: int, pairs: int, interleaved: int, width: int, out: int) -> None:
    """A head with its first values turned by the angles, pair by pair; the others are copied."""
    step, partner = (8, 4) if interleaved else (4, 4 * pairs)
    done = 0
    if not interleaved:
        done = pairs // 16 * 16
        for j in range(0, 4 * done, 64):
            c, s, a, b = load_f32x16(cos + j), load_f32x16(sin + j), load_f32x16(x + j), load_f32x16(x + j + partner)
            store(out + j, subtract(multiply(a, c), multiply(b, s)))
            store(out + j + partner, fma(b, c, multiply(a, s)))
    for j in range(done, pairs):
        cosine, sine = load_f32(cos + 4 * j), load_f32(sin + 4 * j)
        first, second = load_f32(x + step * j), load_f32(x + step * j + partner)
        store(out + step * j, first * cosine - second * sine)
        store(out + step * j + partner, second * cosine + first * sine)
    for j in range(8 * pairs, 4 * width, 4):
        store(out + j, load_f32(x + j))


@kernel("void(int64, int64, int64, int64, int64, int64)")
def heads_of_token(
    model_address: int, layer_address: int, room_address: int, position: int, token: int, scratch: int
) -> None:
    """Query rows into `q`; key and value into the cache, at `position` and `token` more."""
    m, w, r = model_at(model_address), layer_at(layer_address), room_at(room_address)
    rows = (m.heads + 2 * m.kv_heads) * m.head_dim
    x = r.qkv + 4 * token * rows
    cos, sin = r.cos + 4 * token * m.pairs, r.sin + 4 * token * m.pairs
    if w.bias:
        add_to(x, w.bias, rows)
    for head in range(m.heads + m.kv_heads):
        at = x + 4 * head * m.head_dim
        query = head < m.heads
        weight = w.q_norm if query else w.k_norm
        if weight:
            norm(at, weight, m.head_dim, m.eps, at)
        out = r.q + 4 * (token * m.heads + head) * m.padded if query else scratch
        rotate(at, cos, sin, m.pairs, m.interleaved, m.head_dim, out)
        if not query:
            for i in range(4 * m.head_dim, 4 * m.padded, 4):
                store(scratch + i, np.float32(0.0))
            put_key(model_address, w.number, head - m.heads, position + token, scratch)
    for head in range(m.kv_heads):
        at = x + 4 * (m.heads + m.kv_heads + head) * m.head_dim
        for i in range(0, 4 * m.head_dim, 4):
            store(scratch + i, load_f32(at + i))
        put_value(model_address, w.number, head, position + token, scratch)
