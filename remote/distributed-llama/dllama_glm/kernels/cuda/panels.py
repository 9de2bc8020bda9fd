"""Products of Q40 matrices with many tokens, weights expanded to halves on their way into the matrix units."""

import triton
import triton.language as tl

_EXPONENT = tl.constexpr(0x6400)  # the bits of 1024 as a half: the lowest four of its fraction count whole numbers


@triton.jit
def _weights(nibbles: tl.tensor, steps: tl.tensor, EXACT: tl.constexpr) -> tl.tensor:
    """Return what nibbles stand for, as halves (EXACT: float32), without a conversion from whole numbers."""
    values = (nibbles.to(tl.uint16) | _EXPONENT).to(tl.float16, bitcast=True) - 1032.0
    if EXACT:
        return values.to(tl.float32) * steps.to(tl.float32)
    else:  # noqa: RET505 - the compiler takes one branch by its constant
        return (values * steps).to(tl.float16)


@triton.jit
def _panel(
    total: tl.tensor, low: tl.tensor, high: tl.tensor, codes: tl.tensor, scales: tl.tensor, row: tl.tensor,
    there: tl.tensor, byte: tl.tensor,
    COLUMNS: tl.constexpr, EXACT: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Add the products of x (its values of low and of high nibbles) with bytes of these rows."""
    code = tl.load(codes + row[:, None] * (COLUMNS // 2) + byte[None, :], mask=there, other=0)
    steps = tl.load(scales + row[:, None] * (COLUMNS // 32) + (byte // 16)[None, :], mask=there, other=0.0)
    first, second = _weights(code & 15, steps, EXACT), _weights(code >> 4, steps, EXACT)
    total += tl.dot(low, tl.trans(first), input_precision="ieee")
    return total + tl.dot(high, tl.trans(second), input_precision="ieee")


@triton.jit
def panel_products(
    x: tl.tensor, codes: tl.tensor, scales: tl.tensor, up: tl.tensor, up_scales: tl.tensor, out: tl.tensor,
    order: tl.tensor, tile_expert: tl.tensor, tile_first: tl.tensor, expert_end: tl.tensor,
    tokens: int, rows: int, slots: int,
    COLUMNS: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr,
    GATED: tl.constexpr, GROUPED: tl.constexpr, GATHER: tl.constexpr, SCATTER: tl.constexpr, EXACT: tl.constexpr,
) -> None:  # fmt: skip
    """Program (part of the tokens, part of the rows): TOKENS x ROWS of out [tokens, rows].

    GATED: silu of the product, times that with `up`. GROUPED: places are those of `order`, which sorts the tokens'
    slots (`slots` a token) by expert; each part holds one expert's: `tile_expert`, from `tile_first` to `expert_end`;
    experts' matrices follow each other. GATHER: a place takes the row of its token, otherwise x is in the places'
    order. SCATTER: its result goes to the slot that stands there in `order`. Parts beyond the last expert's are empty.
    """
    place = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    wide = row < rows
    source, target, end, base = place, place, tokens, 0
    if GROUPED:
        expert = tl.load(tile_expert + tl.program_id(0))
        place = tl.load(tile_first + tl.program_id(0)) + tl.arange(0, TOKENS)
        end = tl.load(expert_end + expert)
        base = expert * rows
        entry = tl.load(order + place, mask=place < end, other=0)
        source, target = place, place
        if GATHER:
            source = entry // slots
        if SCATTER:
            target = entry
    live = place < end
    total = tl.zeros([TOKENS, ROWS], tl.float32)
    wide_total = tl.zeros([TOKENS, ROWS], tl.float32)
    kind: tl.constexpr = tl.float32 if EXACT else tl.float16
    for first in range(0, COLUMNS, DEPTH):
        byte = first // 2 + tl.arange(0, DEPTH // 2)
        column = byte // 16 * 32 + byte % 16
        inside = column < COLUMNS
        at = x + source.to(tl.int64)[:, None] * COLUMNS + column[None, :]
        taken = live[:, None] & inside[None, :]
        low = tl.load(at, mask=taken, other=0.0).to(kind)
        high = tl.load(at + 16, mask=taken, other=0.0).to(kind)
        there = wide[:, None] & inside[None, :]
        total = _panel(total, low, high, codes, scales, base + row, there, byte, COLUMNS, EXACT)
        if GATED:
            wide_total = _panel(wide_total, low, high, up, up_scales, base + row, there, byte, COLUMNS, EXACT)
    if GATED:
        total = total / (1.0 + tl.exp(-total)) * wide_total
        total = tl.minimum(tl.maximum(total, -65504.0), 65504.0)  # it may become a half
    at = out + target.to(tl.int64)[:, None] * rows + row[None, :]
    tl.store(at, total.to(out.dtype.element_ty), mask=live[:, None] & wide[None, :])
