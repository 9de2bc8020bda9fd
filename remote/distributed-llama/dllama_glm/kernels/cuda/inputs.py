"""The first kernel of a layer for one token: norm, queries, keys and values, rotation; keys and values to the cache."""

import triton
import triton.language as tl

from dllama_glm.kernels.cuda.blocks import block_products, inverse_rms, normed_blocks


@triton.jit
def _products(
    x: tl.tensor, norm: tl.tensor, inverse: tl.tensor, codes: tl.tensor, scales: tl.tensor, row: tl.tensor,
    live: tl.tensor,
    DIM: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr, EXACT: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Return these rows' products with the normed x."""
    total = tl.zeros([BLOCKS, ROWS], tl.float32)
    for first in range(0, DIM // 32, BLOCKS):
        block = first + tl.arange(0, BLOCKS)
        inside = block < DIM // 32
        low, high, scale, offset = normed_blocks(x, norm, inverse, block, inside, True, EXACT)
        place = block[:, None] + row[None, :] * (DIM // 32)
        there = inside[:, None] & live[None, :]
        total += block_products(codes, scales, place, there, low, high, scale, offset, EXACT)
    return tl.sum(total, axis=0)


@triton.jit(do_not_specialize_on_alignment=["scales"])  # see `block_products`
def attend_inputs(
    x: tl.tensor, norm: tl.tensor, codes: tl.tensor, scales: tl.tensor, bias: tl.tensor, q_norm: tl.tensor,
    k_norm: tl.tensor,
    cos: tl.tensor, sin: tl.tensor, position: tl.tensor, q: tl.tensor, keys: tl.tensor, values: tl.tensor,
    eps: float, capacity: int,
    DIM: tl.constexpr, WIDTH: tl.constexpr, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD: tl.constexpr,
    TURNED: tl.constexpr, PAIRS: tl.constexpr, BLOCKS: tl.constexpr, INTERLEAVED: tl.constexpr, BIAS: tl.constexpr,
    QK_NORM: tl.constexpr, EXACT: tl.constexpr,
) -> None:  # fmt: skip
    """Program (head, part): PAIRS pairs of a head's values (all of them with QK_NORM).

    Heads are the queries', the keys', the values'. TURNED pairs are rotated; the values beyond form pairs, too.
    """
    head = tl.program_id(0)
    pair = tl.program_id(1) * PAIRS + tl.arange(0, 2 * PAIRS) // 2
    second = tl.arange(0, 2 * PAIRS) % 2
    column = 2 * pair + second
    if not INTERLEAVED:
        column = tl.where(pair < TURNED, pair + second * TURNED, column)
    live = pair < HEAD // 2
    row = tl.where(live, head * HEAD + column, 0)
    inverse = inverse_rms(x, eps, DIM, WIDTH)
    y = _products(x, norm, inverse, codes, scales, row, live, DIM, 2 * PAIRS, BLOCKS, EXACT)
    if BIAS:
        y += tl.load(bias + row)
    y = tl.where(live, y, 0.0)
    if QK_NORM:
        weight = tl.where(head < HEADS, tl.load(q_norm + column, mask=live), tl.load(k_norm + column, mask=live))
        normed = y / tl.sqrt(tl.sum(y * y, axis=0) / HEAD + eps) * weight
        y = tl.where(head < HEADS + KV_HEADS, normed, y)
    a, b = tl.split(tl.reshape(y, [PAIRS, 2]))
    place = tl.load(position)
    pair = tl.program_id(1) * PAIRS + tl.arange(0, PAIRS)
    turned = pair < tl.where(head < HEADS + KV_HEADS, TURNED, 0)
    c = tl.load(cos + place * TURNED + pair, mask=turned, other=1.0)
    s = tl.load(sin + place * TURNED + pair, mask=turned, other=0.0)
    left, right = 2 * pair, 2 * pair + 1
    if not INTERLEAVED:
        left, right = tl.where(pair < TURNED, pair, left), tl.where(pair < TURNED, pair + TURNED, right)
    live = pair < HEAD // 2
    if head < HEADS:
        tl.store(q + head * HEAD + left, a * c - b * s, mask=live)
        tl.store(q + head * HEAD + right, b * c + a * s, mask=live)
    elif head < HEADS + KV_HEADS:
        at = keys + ((head - HEADS).to(tl.int64) * capacity + place) * HEAD
        tl.store(at + left, (a * c - b * s).to(keys.dtype.element_ty), mask=live)
        tl.store(at + right, (b * c + a * s).to(keys.dtype.element_ty), mask=live)
    else:
        at = values + ((head - HEADS - KV_HEADS).to(tl.int64) * capacity + place) * HEAD
        tl.store(at + left, a.to(values.dtype.element_ty), mask=live)
        tl.store(at + right, b.to(values.dtype.element_ty), mask=live)
