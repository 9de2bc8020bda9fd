"""Which experts a token goes to, and the tokens in the order of their experts."""

from typing import Any

import numpy as np

from dllama_glm.kernels.build import inlined, kernel
from dllama_glm.kernels.memory import load_f32, load_i64, store
from dllama_glm.kernels.structures import layer_at, model_at, room_at

_OUT = np.float32(-np.inf)
_KEPT = np.float32(-3.0e38)  # no group is worth this little


@inlined
def _best(values: int, count: int) -> int:
    """Where the largest of some values stands, the first of equal ones."""
    best = 0
    for i in range(1, count):
        if load_f32(values + 4 * i) > load_f32(values + 4 * best):
            best = i
    return best


@kernel("void(int64, int64, int64, int64)")
def score(logits: int, count: int, sigmoid: int, out: int) -> None:
    """Router logits as scores: each its sigmoid, or all a softmax."""
    top, sums = load_f32(logits + 4 * _best(logits, count)), np.float32(0.0)
    for e in range(count):
        value = load_f32(logits + 4 * e)
        if sigmoid:
            store(out + 4 * e, np.float32(1.0) / (np.float32(1.0) + np.exp(-value)))
        else:
            power = np.exp(value - top)
            sums += power
            store(out + 4 * e, power)
    if not sigmoid:
        for e in range(count):
            store(out + 4 * e, load_f32(out + 4 * e) / sums)


@kernel("void(int64, int64, int64, int64, int64)")
def keep_groups(ranked: int, count: int, groups: int, kept: int, worth: int) -> None:
    """Rule out the experts of all groups but the best; a group is as good as its two best experts together."""
    size = count // groups
    for g in range(groups):
        first, second = _OUT, _OUT
        for e in range(g * size, (g + 1) * size):
            value = load_f32(ranked + 4 * e)
            if value > first:
                first, second = value, first
            elif value > second:
                second = value
        store(worth + 4 * g, first + second)
    for _ in range(kept):
        best = _best(worth, groups)
        store(worth + 4 * best, _KEPT)
    for g in range(groups):
        if load_f32(worth + 4 * g) != _KEPT:
            for e in range(g * size, (g + 1) * size):
                store(ranked + 4 * e, _OUT)


@inlined
def _weight_sum(shares: int, count: int) -> Any:
    total = np.float32(0.0)
    for k in range(count):
        total += load_f32(shares + 4 * k)
    return total


@kernel("void(int64, int64, int64, int64)")
def choose(model_address: int, layer_address: int, room_address: int, token: int) -> None:
    """The chosen experts of a token and their shares, from its router logits.

    A correction shifts the choice; the shares are of the scores without it.
    """
    m, w, r = model_at(model_address), layer_at(layer_address), room_at(room_address)
    scores, ranked = r.score + 12 * token * m.experts, r.score + 12 * token * m.experts + 4 * m.experts
    score(r.logits + 4 * token * m.experts, m.experts, m.sigmoid, scores)
    for e in range(m.experts):
        shift = load_f32(w.correction + 4 * e) if w.correction else np.float32(0.0)
        store(ranked + 4 * e, load_f32(scores + 4 * e) + shift)
    if m.groups > 1:
        keep_groups(ranked, m.experts, m.groups, m.groups_kept, ranked + 4 * m.experts)
    chosen, shares = r.chosen + 8 * token * m.active, r.shares + 4 * token * m.active
    for k in range(m.active):
        best = _best(ranked, m.experts)
        store(chosen + 8 * k, best)
        store(shares + 4 * k, load_f32(scores + 4 * best))
        store(ranked + 4 * best, _OUT)
    divisor = _weight_sum(shares, m.active) + np.float32(1e-20) if m.normalise else np.float32(1.0)
    for k in range(m.active):
        store(shares + 4 * k, load_f32(shares + 4 * k) / divisor * m.routed_scale)


@kernel("void(int64, int64)")
def order_slots(model_address: int, room_address: int) -> None:
    """Number the slots by expert: `start`, `place` and `token` of the room; the shared expert's slots are the last."""
    m, r = model_at(model_address), room_at(room_address)
    for e in range(m.experts + 2):
        store(r.start + 8 * e, np.int64(0))
    for k in range(r.tokens * m.active):
        counted = r.start + 8 * load_i64(r.chosen + 8 * k) + 8
        store(counted, load_i64(counted) + 1)
    for e in range(m.experts):
        store(r.start + 8 * e + 8, load_i64(r.start + 8 * e + 8) + load_i64(r.start + 8 * e))
    each = m.active + m.shared
    for t in range(r.tokens):
        for k in range(m.active):
            free = r.start + 8 * load_i64(r.chosen + 8 * (t * m.active + k))
            slot = load_i64(free)
            store(free, slot + 1)
            store(r.place + 8 * (t * each + k), slot)
            store(r.token + 8 * slot, t)
        if m.shared:
            slot = r.tokens * m.active + t
            store(r.place + 8 * (t * each + m.active), slot)
            store(r.token + 8 * slot, t)
    for e in range(m.experts, 0, -1):  # each start has moved to its expert's end, which is the next one's start
        store(r.start + 8 * e, load_i64(r.start + 8 * e - 8))
    store(r.start, np.int64(0))
    store(r.start + 8 * m.experts + 8, r.tokens * each)
