"""The MLP for one token: silu(gate) * up of every slot's network, and their weighted sum through down.

Slots 0 to ACTIVE - 1 are routed experts of width `WIDTH`; one more, of width `SHARED`, if that is not 0: the shared
expert, or a dense layer's only network. Each kind of matrix is one stack: the experts', and the shared one behind them.
"""

import triton
import triton.language as tl

from dllama_glm.kernels.cuda.blocks import block_products, store_blocks, stored_blocks
from dllama_glm.kernels.cuda.routing import choose
from dllama_glm.kernels.cuda.rows import row_products


@triton.jit(do_not_specialize_on_alignment=["gate_scales", "up_scales"])  # see `block_products`
def expand(
    x: tl.tensor, scale: tl.tensor, offset: tl.tensor, scores: tl.tensor, correction: tl.tensor,
    gate: tl.tensor, gate_scales: tl.tensor, up: tl.tensor, up_scales: tl.tensor,
    chosen: tl.tensor, hidden: tl.tensor, hidden_scale: tl.tensor, hidden_offset: tl.tensor, share_scale: float,
    DIM: tl.constexpr, WIDTH: tl.constexpr, SHARED: tl.constexpr, EXPERTS: tl.constexpr, ACTIVE: tl.constexpr,
    GROUPS: tl.constexpr, MOST: tl.constexpr, EACH: tl.constexpr, KEPT: tl.constexpr, SIGMOID: tl.constexpr,
    NORMALISE: tl.constexpr, CORRECTED: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr, EXACT: tl.constexpr,
) -> None:  # fmt: skip
    """Program (part, slot): ROWS rows of the slot's network times its share, as `store_blocks` stores them."""
    part, slot = tl.program_id(0), tl.program_id(1)
    expert, share, width = EXPERTS + slot * 0, 1.0 + slot * 0.0, SHARED + slot * 0
    if ACTIVE > 0:  # noqa: SIM102 - the compiler leaves it out by its constant
        if slot < ACTIVE:
            expert, share = choose(scores, correction, slot, EXPERTS, ACTIVE, GROUPS, MOST, EACH, KEPT, SIGMOID,
                                   NORMALISE, CORRECTED, share_scale)  # fmt: skip
            width = WIDTH
            if part == 0:
                tl.store(chosen + slot, expert)
    row = part * ROWS + tl.arange(0, ROWS)
    if part * ROWS < width:
        live = row < width
        y = _gated(x, scale, offset, gate, gate_scales, up, up_scales, expert * WIDTH + row, live,
                   DIM, ROWS, BLOCKS, EXACT) * share  # fmt: skip
        block = (slot * WIDTH + part * ROWS) // 32 + tl.arange(0, ROWS // 32)
        inside = part * ROWS + tl.arange(0, ROWS // 32) * 32 < width
        values = tl.reshape(tl.where(live, y, 0.0), [ROWS // 32, 32])
        store_blocks(values, block, inside, hidden, hidden_scale, hidden_offset, EXACT)


@triton.jit
def _gated(
    x: tl.tensor, scale: tl.tensor, offset: tl.tensor, gate: tl.tensor, gate_scales: tl.tensor, up: tl.tensor,
    up_scales: tl.tensor,
    row: tl.tensor, live: tl.tensor, DIM: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr, EXACT: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    gated = tl.zeros([BLOCKS, ROWS], tl.float32)
    wide = tl.zeros([BLOCKS, ROWS], tl.float32)
    for first in range(0, DIM // 32, BLOCKS):
        block = first + tl.arange(0, BLOCKS)
        inside = block < DIM // 32
        low, high, steps, sums = stored_blocks(x, scale, offset, block, inside, EXACT)
        place = block[:, None] + row[None, :] * (DIM // 32)
        there = inside[:, None] & live[None, :]
        gated += block_products(gate, gate_scales, place, there, low, high, steps, sums, EXACT)
        wide += block_products(up, up_scales, place, there, low, high, steps, sums, EXACT)
    g = tl.sum(gated, axis=0)
    return g / (1.0 + tl.exp(-g)) * tl.sum(wide, axis=0)


@triton.jit(do_not_specialize_on_alignment=["down_scales"])  # see `block_products`
def contract(
    hidden: tl.tensor, scale: tl.tensor, offset: tl.tensor, chosen: tl.tensor, down: tl.tensor,
    down_scales: tl.tensor, out: tl.tensor,
    DIM: tl.constexpr, WIDTH: tl.constexpr, SHARED: tl.constexpr, EXPERTS: tl.constexpr, ACTIVE: tl.constexpr,
    ROWS: tl.constexpr, BLOCKS: tl.constexpr, ADD: tl.constexpr, EXACT: tl.constexpr,
) -> None:  # fmt: skip
    """Program (part): ROWS rows of the sum over all slots, stored at `out`, or with ADD added to what is there.

    All slots of the experts are one long row: block b belongs to slot b // (blocks of an expert's row).
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = row < DIM
    each: tl.constexpr = WIDTH // 32
    y = tl.zeros([ROWS], tl.float32)
    if ACTIVE > 0:
        total = tl.zeros([BLOCKS, ROWS], tl.float32)
        for first in range(0, ACTIVE * each, BLOCKS):
            block = first + tl.arange(0, BLOCKS)
            inside = block < ACTIVE * each
            low, high, steps, sums = stored_blocks(hidden, scale, offset, block, inside, EXACT)
            expert = tl.load(chosen + block // each, mask=inside, other=0)
            place = (expert[:, None] * DIM + row[None, :]) * each + (block % each)[:, None]
            there = inside[:, None] & live[None, :]
            total += block_products(down, down_scales, place, there, low, high, steps, sums, EXACT)
        y += tl.sum(total, axis=0)
    if SHARED > 0:
        first = ACTIVE * each
        if EXACT:  # noqa: SIM108 - pointers of two kinds
            own = hidden + first * 32
        else:
            own = hidden + first * 8
        y += row_products(own, scale + first, offset + first, down, down_scales, row, live, EXPERTS * DIM * each,
                          SHARED, ROWS, BLOCKS, False, EXACT)  # fmt: skip
    if ADD:
        y += tl.load(out + row, mask=live, other=0.0)
    tl.store(out + row, y, mask=live)
