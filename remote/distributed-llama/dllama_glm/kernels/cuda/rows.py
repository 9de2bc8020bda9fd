"""Products of whole rows for one token: the output matrix of attention, the vocabulary; and what stands behind them."""

import triton
import triton.language as tl

from dllama_glm.kernels.cuda.blocks import block_products, normed_blocks, stored_blocks


@triton.jit
def row_products(
    x: tl.tensor, scale: tl.tensor, offset: tl.tensor, codes: tl.tensor, scales: tl.tensor, row: tl.tensor,
    live: tl.tensor,
    first_block: tl.tensor, COLUMNS: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr, CUT: tl.constexpr,
    EXACT: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Return the rows' products with stored activations (CUT: with float32 ones, cut here): float32 [ROWS].

    Rows begin `first_block` blocks behind the beginning of the matrix.
    """
    total = tl.zeros([BLOCKS, ROWS], tl.float32)
    for first in range(0, COLUMNS // 32, BLOCKS):
        block = first + tl.arange(0, BLOCKS)
        inside = block < COLUMNS // 32
        if CUT:
            low, high, steps, sums = normed_blocks(x, x, 1.0, block, inside, False, EXACT)
        else:
            low, high, steps, sums = stored_blocks(x, scale, offset, block, inside, EXACT)
        place = first_block + block[:, None] + row[None, :] * (COLUMNS // 32)
        there = inside[:, None] & live[None, :]
        total += block_products(codes, scales, place, there, low, high, steps, sums, EXACT)
    return tl.sum(total, axis=0)


@triton.jit(do_not_specialize_on_alignment=["scales"])  # see `block_products`
def multiply(
    x: tl.tensor, scale: tl.tensor, offset: tl.tensor, codes: tl.tensor, scales: tl.tensor, out: tl.tensor, rows: int,
    COLUMNS: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr, ADD: tl.constexpr, CUT: tl.constexpr,
    EXACT: tl.constexpr,
) -> None:  # fmt: skip
    """Program (part): ROWS rows of the product, stored at `out`, or with ADD added to what is there."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = row < rows
    y = row_products(x, scale, offset, codes, scales, row, live, 0, COLUMNS, ROWS, BLOCKS, CUT, EXACT)
    if ADD:
        y += tl.load(out + row, mask=live, other=0.0)
    tl.store(out + row, y, mask=live)


@triton.jit
def settle(
    x: tl.tensor,
    partial: tl.tensor,
    norm: tl.tensor,
    eps: float,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    NORMED: tl.constexpr,
) -> None:
    """Program (token): add the sum of all ranks' parts to x, through the norm behind it if NORMED."""
    lane = tl.arange(0, WIDTH)
    live = lane < DIM
    at = tl.program_id(0).to(tl.int64) * DIM + lane
    y = tl.load(partial + at, mask=live, other=0.0)
    if NORMED:
        y = y / tl.sqrt(tl.sum(y * y, axis=0) / DIM + eps) * tl.load(norm + lane, mask=live, other=0.0)
    tl.store(x + at, tl.load(x + at, mask=live, other=0.0) + y, mask=live)


@triton.jit
def embed(table: tl.tensor, token: tl.tensor, x: tl.tensor, DIM: tl.constexpr, PART: tl.constexpr) -> None:
    """Program (part): PART values of the token's row, out of the host's memory."""
    at = tl.program_id(0) * PART + tl.arange(0, PART)
    row = tl.load(token).to(tl.int64) * DIM
    tl.store(x + at, tl.load(table + row + at, mask=at < DIM), mask=at < DIM)


@triton.jit
def best_of_part(logits: tl.tensor, tops: tl.tensor, places: tl.tensor, rows: int, PART: tl.constexpr) -> None:
    """Program (part): the largest of PART logits, and the first place where it stands."""
    at = tl.program_id(0) * PART + tl.arange(0, PART)
    values = tl.load(logits + at, mask=at < rows, other=float("-inf"))
    top = tl.max(values, axis=0)
    tl.store(tops + tl.program_id(0), top)
    tl.store(places + tl.program_id(0), tl.min(tl.where((values == top) & (at < rows), at, 0x7FFFFFFF), axis=0))


@triton.jit
def best(
    tops: tl.tensor, places: tl.tensor, firsts: tl.tensor, token: tl.tensor, position: tl.tensor, own: tl.tensor,
    parts: int, MOST: tl.constexpr, STRIDE: tl.constexpr, RANKS: tl.constexpr, LAST: tl.constexpr,
) -> None:  # fmt: skip
    """Choose among parts, STRIDE numbers apart: the largest, of equal ones the lowest place.

    With RANKS each part is a rank's, whose places count from its `firsts`. LAST: the place is the next token, and the
    position goes on by one. Otherwise it is this rank's best: `own` gets the bits of the value, and the place.
    """
    part = tl.arange(0, MOST)
    live = part < parts
    values = tl.load(tops + part * STRIDE, mask=live, other=float("-inf"))
    place = tl.load(places + part * STRIDE, mask=live, other=0)
    if RANKS:
        place += tl.load(firsts + part, mask=live, other=0)
    top = tl.max(values, axis=0)
    found = tl.min(tl.where((values == top) & live, place, 0x7FFFFFFF), axis=0)
    if LAST:
        tl.store(token, found)
        tl.store(position, tl.load(position) + 1)
    else:
        tl.store(own, top.to(tl.int32, bitcast=True))
        tl.store(own + 1, found)
