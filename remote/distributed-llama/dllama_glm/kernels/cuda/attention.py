"""Causal attention over the cache, for one token as for many; split over positions where one token waits for it."""

import triton
import triton.language as tl

from dllama_glm.kernels.cuda.blocks import INTERPRETED, store_blocks

_NARROW = tl.constexpr(not INTERPRETED)  # the interpreter multiplies bfloat16 as float32


@triton.jit
def _dot(a: tl.tensor, b: tl.tensor, EXACT: tl.constexpr) -> tl.tensor:
    """Matrix product; operands are float32, and without EXACT have bfloat16's values."""
    if EXACT or not _NARROW:
        return tl.dot(a, b, input_precision="ieee")
    else:  # noqa: RET505 - the compiler takes one branch by its constant
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))


@triton.jit
def _scores(q: tl.tensor, k: tl.tensor, EXACT: tl.constexpr) -> tl.tensor:
    """Return q k^T; without EXACT q goes in as two bfloat16 numbers, which together hold 16 of its bits."""
    if EXACT:
        return _dot(q, tl.trans(k), EXACT)
    else:  # noqa: RET505 - as above
        most = q.to(tl.bfloat16).to(tl.float32)
        return _dot(most, tl.trans(k), EXACT) + _dot((q - most).to(tl.bfloat16).to(tl.float32), tl.trans(k), EXACT)


@triton.jit
def attend(  # noqa: PLR0915 - one pass over the positions
    q: tl.tensor, keys: tl.tensor, values: tl.tensor, first_heads: tl.tensor, position: tl.tensor,
    partial: tl.tensor, tops: tl.tensor, sums: tl.tensor, tickets: tl.tensor,
    out: tl.tensor, out_scale: tl.tensor, out_offset: tl.tensor,
    tokens: int, capacity: int, window: int, scale: float,
    HEADS: tl.constexpr, HEAD: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr, POSITIONS: tl.constexpr,
    SPLITS: tl.constexpr, BYTES: tl.constexpr, EXACT: tl.constexpr,
) -> None:  # fmt: skip
    """Program (KV head, part of its rows, part of the positions). A row is a token's query head; LANES >= HEAD.

    `first_heads` tells where the query heads of each KV head begin. With SPLITS > 1 there are as many rows as query
    heads (one token), and the last program of a KV head to come puts the parts together. BYTES: results are stored
    as `store_blocks` does.
    """
    kv, split = tl.program_id(0), tl.program_id(2)
    first = tl.load(first_heads + kv)
    group = tl.load(first_heads + kv + 1) - first
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    token, head = row // group, first + row % group
    live = token < tokens
    lane = tl.arange(0, LANES)
    wide = (lane < HEAD)[None, :]
    start = tl.load(position)
    query = tl.load(q + (token[:, None] * HEADS + head[:, None]) * HEAD + lane[None, :], mask=live[:, None] & wide,
                    other=0.0) * scale  # fmt: skip
    earliest = tl.program_id(1) * ROWS // group
    end = start + tl.minimum(tokens, (tl.program_id(1) * ROWS + ROWS - 1) // group + 1)
    begin = tl.maximum(0, start + earliest - window + 1)
    span = tl.cdiv(tl.cdiv(end - begin, SPLITS), POSITIONS) * POSITIONS
    begin += split * span
    end = tl.minimum(end, begin + span)
    place = start + token
    base = kv.to(tl.int64) * capacity * HEAD
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, LANES], tl.float32)
    for at in range(begin, end, POSITIONS):
        where = at + tl.arange(0, POSITIONS)
        there = where[:, None] * HEAD + lane[None, :]
        inside = (where < end)[:, None] & wide
        k = tl.load(keys + base + there, mask=inside, other=0.0).to(tl.float32)
        v = tl.load(values + base + there, mask=inside, other=0.0).to(tl.float32)
        seen = (where[None, :] < end) & (where[None, :] <= place[:, None]) & (where[None, :] > place[:, None] - window)
        scores = tl.where(seen, _scores(query, k, EXACT), float("-inf"))
        higher = tl.maximum(top, tl.max(scores, axis=1))
        known = tl.where(higher == float("-inf"), 0.0, higher)  # no position seen yet: nothing minus nothing is nothing
        powers = tl.exp(scores - known[:, None])
        shrunk = tl.exp(top - known)
        if not EXACT:
            powers = powers.to(tl.bfloat16).to(tl.float32)
        total = total * shrunk + tl.sum(powers, axis=1)
        mixed = mixed * shrunk[:, None] + _dot(powers, v, EXACT)
        top = higher
    if SPLITS == 1:
        at = (token[:, None] * HEADS + head[:, None]) * HEAD + lane[None, :]
        mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
        tl.store(out + at, mixed.to(out.dtype.element_ty), mask=live[:, None] & wide)
    else:
        own = (kv * SPLITS + split) * ROWS + tl.arange(0, ROWS)
        tl.store(partial + own[:, None] * LANES + lane[None, :], mixed)
        tl.store(tops + own, top)
        tl.store(sums + own, total)
        tl.debug_barrier()  # all of this program's parts are stored before its ticket is drawn
        if tl.atomic_add(tickets + kv, 1) == SPLITS - 1:
            tl.store(tickets + kv, 0)
            _combine(partial, tops, sums, kv, first, group, out, out_scale, out_offset,
                     HEAD, LANES, ROWS, SPLITS, BYTES, EXACT)  # fmt: skip


@triton.jit
def _combine(
    partial: tl.tensor, tops: tl.tensor, sums: tl.tensor, kv: tl.tensor, first: tl.tensor, group: tl.tensor,
    out: tl.tensor, out_scale: tl.tensor, out_offset: tl.tensor,
    HEAD: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr, SPLITS: tl.constexpr, BYTES: tl.constexpr,
    EXACT: tl.constexpr,
) -> None:  # fmt: skip
    """Put the parts of a KV head's rows together, read past the first cache, which may hold older ones."""
    row, lane = tl.arange(0, ROWS), tl.arange(0, LANES)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    for split in range(SPLITS):
        top = tl.maximum(top, tl.load(tops + (kv * SPLITS + split) * ROWS + row, cache_modifier=".cg"))
    known = tl.where(top == float("-inf"), 0.0, top)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, LANES], tl.float32)
    for split in range(SPLITS):
        own = (kv * SPLITS + split) * ROWS + row
        share = tl.exp(tl.load(tops + own, cache_modifier=".cg") - known)
        total += share * tl.load(sums + own, cache_modifier=".cg")
        part = tl.load(partial + own[:, None] * LANES + lane[None, :], cache_modifier=".cg")
        mixed += share[:, None] * part
    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
    if BYTES:
        values = tl.reshape(mixed, [ROWS * LANES // 32, 32])
        block = first * (HEAD // 32) + tl.arange(0, ROWS * LANES // 32)
        store_blocks(values, block, block < (first + group) * (HEAD // 32), out, out_scale, out_offset, EXACT)
    else:
        live = (row < group)[:, None] & (lane < HEAD)[None, :]
        tl.store(out + (first + row)[:, None] * HEAD + lane[None, :], mixed, mask=live)
