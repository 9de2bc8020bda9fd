"""Norm, the router's logits, and the choice that each program of the next kernel makes from them by itself."""

import triton
import triton.language as tl

from dllama_glm.kernels.cuda.blocks import inverse_rms, store_blocks


@triton.jit
def route(
    x: tl.tensor, norm: tl.tensor, router: tl.tensor, correction: tl.tensor, scores: tl.tensor,
    codes: tl.tensor, scale: tl.tensor, offset: tl.tensor, eps: float,
    DIM: tl.constexpr, WIDTH: tl.constexpr, EXPERTS: tl.constexpr, SIGMOID: tl.constexpr, CORRECTED: tl.constexpr,
    BLOCKS: tl.constexpr, EXACT: tl.constexpr,
) -> None:  # fmt: skip
    """Program (part): BLOCKS blocks of the normed x, as `store_blocks` stores them; and one expert's score.

    `scores` [2, EXPERTS] gets it plain, and corrected for the choice; a softmax needs all, so there both are logits.
    """
    part = tl.program_id(0)
    inverse = inverse_rms(x, eps, DIM, WIDTH)
    if part < EXPERTS:
        lane = tl.arange(0, WIDTH)
        live = lane < DIM
        normed = tl.load(x + lane, mask=live, other=0.0) * inverse * tl.load(norm + lane, mask=live, other=0.0)
        row = tl.load(router + part * DIM + lane, mask=live, other=0.0)
        score = tl.sum(normed * row, axis=0)
        if SIGMOID:
            score = 1.0 / (1.0 + tl.exp(-score))
        tl.store(scores + part, score)
        if SIGMOID and CORRECTED:
            score += tl.load(correction + part)
        tl.store(scores + EXPERTS + part, score)
    block = part * BLOCKS + tl.arange(0, BLOCKS)
    inside = block < DIM // 32
    at = block[:, None] * 32 + tl.arange(0, 32)[None, :]
    values = tl.load(x + at, mask=inside[:, None], other=0.0) * inverse
    values = values * tl.load(norm + at, mask=inside[:, None], other=0.0)
    store_blocks(values, block, inside, codes, scale, offset, EXACT)


@triton.jit
def _ranks(worth: tl.tensor, number: tl.tensor) -> tl.tensor:
    """How many are better than each: larger, or equal and in front of it."""
    equal = (worth[:, None] == worth[None, :]) & (number[:, None] < number[None, :])
    return tl.sum(((worth[:, None] > worth[None, :]) | equal).to(tl.int32), axis=0)


@triton.jit
def _best_groups(ranked: tl.tensor, GROUPS: tl.constexpr, EACH: tl.constexpr, KEPT: tl.constexpr) -> tl.tensor:
    """Whether each expert's group is kept [GROUPS, EACH]: a group is as good as its two best together."""
    number = tl.arange(0, EACH)[None, :]
    top = tl.max(ranked, axis=1)
    first = tl.min(tl.where(ranked == top[:, None], number, EACH), axis=1)
    second = tl.max(tl.where(number == first[:, None], float("-inf"), ranked), axis=1)
    kept = _ranks(top + second, tl.arange(0, GROUPS)) < KEPT
    return kept[:, None] & (number < EACH)


@triton.jit
def _scores(
    scores: tl.tensor, correction: tl.tensor, at: tl.tensor, live: tl.tensor,
    EXPERTS: tl.constexpr, SIGMOID: tl.constexpr, CORRECTED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    """Return scores, and what ranks them: minus infinity where no expert is."""
    score = tl.load(scores + at, mask=live, other=float("-inf"))
    if SIGMOID:
        ranked = tl.load(scores + EXPERTS + at, mask=live, other=float("-inf"))
    else:
        powers = tl.exp(score - tl.max(score))
        score = powers / tl.sum(powers)
        ranked = score
        if CORRECTED:
            ranked += tl.load(correction + at, mask=live, other=0.0)
        ranked = tl.where(live, ranked, float("-inf"))
    return tl.where(live, score, 0.0), ranked


@triton.jit
def choose(
    scores: tl.tensor, correction: tl.tensor, slot: tl.tensor,
    EXPERTS: tl.constexpr, ACTIVE: tl.constexpr, GROUPS: tl.constexpr, MOST: tl.constexpr, EACH: tl.constexpr,
    KEPT: tl.constexpr, SIGMOID: tl.constexpr, NORMALISE: tl.constexpr, CORRECTED: tl.constexpr, share_scale: float,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    """Return the number and the share of the expert in a slot; MOST >= GROUPS and EACH >= their size: powers of two."""
    if GROUPS == 1:
        expert = tl.arange(0, EACH)
        score, ranked = _scores(scores, correction, expert, expert < EXPERTS, EXPERTS, SIGMOID, CORRECTED)
    else:
        size: tl.constexpr = EXPERTS // GROUPS
        group, number = tl.arange(0, MOST)[:, None], tl.arange(0, EACH)[None, :]
        live = (group < GROUPS) & (number < size)
        wide, grouped = _scores(scores, correction, group * size + number, live, EXPERTS, SIGMOID, CORRECTED)
        grouped = tl.where(_best_groups(grouped, MOST, EACH, KEPT), grouped, float("-inf"))
        expert = tl.reshape(group * size + number + tl.where(live, 0, EXPERTS), [MOST * EACH])
        ranked, score = tl.reshape(grouped, [MOST * EACH]), tl.reshape(wide, [MOST * EACH])
    rank = _ranks(ranked, expert)
    share = tl.sum(tl.where(rank == slot, score, 0.0), axis=0)
    if NORMALISE:
        share = share / (tl.sum(tl.where(rank < ACTIVE, score, 0.0), axis=0) + 1e-20)
    return tl.sum(tl.where(rank == slot, expert, 0), axis=0), share * share_scale
