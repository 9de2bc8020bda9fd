"""Products of Q40 rows with activations, block by block, and activations cut into signed bytes.

A block is 32 weights: four words of codes, and a half as scale. Byte j holds weight j in its low nibble and weight
j + 16 in its high one. Activations meet them either as bytes (`codes` four to a word, with a scale and an offset of
-8 times their sum for each block), or with EXACT as float32.
"""

import os

import triton
import triton.language as tl

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # by numpy on the CPU, for tests
_LOW_NIBBLES = tl.constexpr(0x0F0F0F0F)
_LEAST = tl.constexpr(1e-30)  # a block of nothing is not divided by nothing
_MAGIC = tl.constexpr(12582912.0)  # 1.5 * 2**23: a float next to it is rounded to a whole number, in its lowest bits
_MAGIC_BITS = tl.constexpr(0x4B400000)


@triton.jit
def _dot4(a: tl.tensor, b: tl.tensor, c: tl.tensor) -> tl.tensor:
    """Return c + the four products of signed bytes in each word of a and b: one instruction."""
    return tl.inline_asm_elementwise(
        "dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r", [a, b, c], dtype=tl.int32, is_pure=True, pack=1
    )


@triton.jit
def inverse_rms(x: tl.tensor, eps: float, DIM: tl.constexpr, WIDTH: tl.constexpr) -> tl.tensor:
    """Return 1 / sqrt(mean of squares + eps) of float32 x [DIM]; WIDTH is the next power of two."""
    lane = tl.arange(0, WIDTH)
    values = tl.load(x + lane, mask=lane < DIM, other=0.0)
    return 1.0 / tl.sqrt(tl.sum(values * values, axis=0) / DIM + eps)


@triton.jit
def _rounded(x: tl.tensor) -> tl.tensor:
    return (x + _MAGIC).to(tl.int32, bitcast=True) - _MAGIC_BITS


@triton.jit
def _cut(low: tl.tensor, high: tl.tensor) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Cut float32 [BLOCKS, 4, 4] (values 0 to 15 and 16 to 31 of each block) into words [BLOCKS, 4]."""
    most = tl.max(tl.max(tl.maximum(tl.abs(low), tl.abs(high)), axis=2), axis=1)
    steps = (127.0 / tl.maximum(most, _LEAST))[:, None, None]
    low_codes, high_codes = _rounded(low * steps), _rounded(high * steps)
    scale = most / 127.0
    total = tl.sum(tl.sum(low_codes + high_codes, axis=2), axis=1)
    shift = (tl.arange(0, 4) * 8)[None, None, :]
    low_words = tl.sum((low_codes & 255) << shift, axis=2)
    high_words = tl.sum((high_codes & 255) << shift, axis=2)
    return low_words, high_words, scale, -8.0 * scale * total.to(tl.float32)


@triton.jit
def _values(x: tl.tensor, block: tl.tensor, inside: tl.tensor, FIRST: tl.constexpr) -> tl.tensor:
    """Load 16 values of each block, from its value FIRST on: float32 [BLOCKS, 4, 4]."""
    word, byte = tl.arange(0, 4), tl.arange(0, 4)
    at = block[:, None, None] * 32 + FIRST + word[None, :, None] * 4 + byte[None, None, :]
    return tl.load(x + at, mask=inside[:, None, None], other=0.0).to(tl.float32)


@triton.jit
def normed_blocks(
    x: tl.tensor,
    norm: tl.tensor,
    inverse: tl.tensor,
    block: tl.tensor,
    inside: tl.tensor,
    NORMED: tl.constexpr,
    EXACT: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Take float32 activations for `block_products`, through the norm if NORMED."""
    low, high = _values(x, block, inside, 0), _values(x, block, inside, 16)
    if NORMED:
        low = low * inverse * _values(norm, block, inside, 0)
        high = high * inverse * _values(norm, block, inside, 16)
    if EXACT:
        nothing = tl.zeros_like(block).to(tl.float32)
        return low, high, nothing, nothing
    else:  # noqa: RET505 - the compiler takes one branch by its constant
        return _cut(low, high)


@triton.jit
def stored_blocks(
    x: tl.tensor, scale: tl.tensor, offset: tl.tensor, block: tl.tensor, inside: tl.tensor, EXACT: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Take activations that `store_blocks` has stored."""
    if EXACT:
        nothing = tl.zeros_like(block).to(tl.float32)
        return _values(x, block, inside, 0), _values(x, block, inside, 16), nothing, nothing
    else:  # noqa: RET505 - as above
        at = block[:, None] * 8 + tl.arange(0, 4)[None, :]
        low = tl.load(x + at, mask=inside[:, None], other=0)
        high = tl.load(x + at + 4, mask=inside[:, None], other=0)
        return (
            low, high, tl.load(scale + block, mask=inside, other=0.0), tl.load(offset + block, mask=inside, other=0.0)
        )  # fmt: skip


@triton.jit
def store_blocks(
    values: tl.tensor,
    block: tl.tensor,
    inside: tl.tensor,
    x: tl.tensor,
    scale: tl.tensor,
    offset: tl.tensor,
    EXACT: tl.constexpr,
) -> None:
    """Store float32 values [BLOCKS, 32] as bytes with scale and offset; with EXACT as they are."""
    at = x + block[:, None] * 32 + tl.arange(0, 32)[None, :]
    if EXACT:
        tl.store(at, values, mask=inside[:, None])
    else:
        most = tl.max(tl.abs(values), axis=1)
        codes = _rounded(values * (127.0 / tl.maximum(most, _LEAST))[:, None])
        tl.store(at, codes.to(tl.int8), mask=inside[:, None])
        tl.store(scale + block, most / 127.0, mask=inside)
        tl.store(offset + block, most / 127.0 * -8.0 * tl.sum(codes, axis=1).to(tl.float32), mask=inside)


@triton.jit
def block_products(
    codes: tl.tensor, scales: tl.tensor, place: tl.tensor, live: tl.tensor, low: tl.tensor, high: tl.tensor,
    scale: tl.tensor, offset: tl.tensor,
    EXACT: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Return what blocks give to their rows: float32 [BLOCKS, ROWS].

    `place` [BLOCKS, ROWS] are the blocks' numbers in the matrix, and `live` whether they are there; the rest are the
    activations that they meet, as `normed_blocks` and `stored_blocks` give them. Blocks come first, so that the lanes
    of a warp read what lies together. Kernels say that nothing is known of the alignment of `scales`: otherwise a
    thread would read several at once, of blocks whose codes others hold, and both would go through shared memory.
    """
    at = codes + place[:, :, None] * 4 + tl.arange(0, 4)[None, None, :]
    words = tl.load(at, mask=live[:, :, None], other=0, eviction_policy="evict_first")
    steps = tl.load(scales + place, mask=live, other=0.0, eviction_policy="evict_first").to(tl.float32)
    if EXACT:
        shift = (tl.arange(0, 4) * 8)[None, None, None, :]
        first = ((words[:, :, :, None] >> shift) & 15).to(tl.float32) - 8.0
        second = ((words[:, :, :, None] >> (shift + 4)) & 15).to(tl.float32) - 8.0
        parts = first * low[:, None, :, :] + second * high[:, None, :, :]
        return steps * tl.sum(tl.sum(parts, axis=3), axis=2)
    else:  # noqa: RET505 - as above
        dots = _dot4(words & _LOW_NIBBLES, low[:, None, :], tl.zeros_like(words))
        dots = _dot4((words >> 4) & _LOW_NIBBLES, high[:, None, :], dots)
        return steps * (scale[:, None] * tl.sum(dots, axis=2).to(tl.float32) + offset[:, None])
