"""A device in plain numpy: exact, slow, and the oracle of the others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.parallel.shard import Shard
from dllama_glm.runtime import rotary
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import At, Group
from dllama_glm.runtime.matrix import Matrix
from dllama_glm.runtime.routing import choose
from dllama_glm.runtime.weights import MixtureWeights, MlpWeights, Weights

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Slots:
    """A token's normed row, and for each of its networks the weights, the tokens that go there and their shares."""

    x: Floats
    slots: list[tuple[MlpWeights, npt.NDArray[np.int64], Floats]] = field(default_factory=list)


class ReferenceDevice:
    """Implements `runtime.device.Device` on float32 arrays, in the most direct way."""

    described: ClassVar[dict[str, Any]] = {"device": "reference"}

    def __init__(self, weights: Weights, architecture: Architecture, shard: Shard, group: Group, capacity: int) -> None:
        self._weights, self._architecture, self._group = weights, architecture, group
        self._kv_of_head = shard.kv_of_head(architecture)
        self._frequency = rotary.frequencies(architecture.rotary)
        shape = (architecture.layers, len(shard.kv_heads), capacity, architecture.head_dim)
        self._keys, self._values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def use_threads(self, threads: int) -> None:
        """Numpy sees to its threads itself."""

    def steps(self, layers: Callable[[list[int], int], Any]) -> None:
        """One token is computed as many are."""

    def embed(self, ids: list[int]) -> Floats:
        """Return the table's rows of these tokens."""
        table = self._weights.embedding
        return np.concatenate([table.take_rows(range(i, i + 1)).to_float() for i in ids])

    def attend_inputs(self, layer: int, x: Floats, at: At) -> Floats:
        """Return the queries [tokens, heads, head_dim]."""
        w, width = self._weights.layers[layer].attention, self._architecture.head_dim
        normed = self._norm(x, self._weights.layers[layer].attention_norm)
        parts = ((w.q, w.q_bias), (w.k, w.k_bias), (w.v, w.v_bias))
        q, k, v = (_product(normed, m, bias).reshape(len(x), -1, width) for m, bias in parts)
        if w.q_norm is not None and w.k_norm is not None:
            q, k = self._norm(q, w.q_norm), self._norm(k, w.k_norm)
        turns = rotary.angles(self._frequency, at.position, at.tokens)
        q, k = (_rotated(heads, *turns, interleaved=self._architecture.rotary.interleaved) for heads in (q, k))
        places = slice(at.position, at.position + at.tokens)
        self._keys[layer][:, places], self._values[layer][:, places] = k.transpose(1, 0, 2), v.transpose(1, 0, 2)
        return q

    def attention(self, layer: int, q: Floats, at: At) -> Floats:
        """Return the heads' results [tokens, heads * head_dim]; softmax in float32."""
        end = at.position + at.tokens
        keys, values = (cache[layer][self._kv_of_head, :end] for cache in (self._keys, self._values))
        scores = q.transpose(1, 0, 2) @ keys.transpose(0, 2, 1) / np.sqrt(np.float32(q.shape[2]))
        distance = np.arange(at.position, end)[:, None] - np.arange(end)[None, :]
        hidden = (distance < 0) | (distance >= self._architecture.window)
        scores = np.where(hidden[None], np.float32(-np.inf), scores)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return (shares @ values).transpose(1, 0, 2).reshape(len(q), -1)

    def attend_output(self, layer: int, mixed: Floats, x: Floats) -> Floats:
        """Return the residual stream."""
        w = self._weights.layers[layer]
        return x + self._behind(_product(mixed, w.attention.o), w.attention_post_norm)

    def route(self, layer: int, x: Floats) -> _Slots:
        """Group the tokens by their experts."""
        w = self._weights.layers[layer]
        routed = _Slots(self._norm(x, w.mlp_norm))
        everyone, whole = np.arange(len(x)), np.ones(len(x), np.float32)
        if not isinstance(w.mlp, MixtureWeights):
            routed.slots.append((w.mlp, everyone, whole))
            return routed
        routing = self._architecture.routing
        assert routing is not None
        chosen, shares = choose(_product(routed.x, w.mlp.router), w.mlp.correction, routing)
        for number in np.unique(chosen):
            tokens, places = np.nonzero(chosen == number)
            routed.slots.append((w.mlp.routed.experts[number], tokens, shares[tokens, places]))
        if w.mlp.shared is not None:
            routed.slots.append((w.mlp.shared, everyone, whole))
        return routed

    def expand(self, layer: int, routed: _Slots) -> list[Floats]:  # noqa: ARG002 - the slots know their weights
        """Return for each network silu(gate) * up of its tokens."""
        return [
            _silu(_product(routed.x[tokens], w.gate)) * _product(routed.x[tokens], w.up)
            for w, tokens, _ in routed.slots
        ]

    def contract(self, layer: int, hidden: list[Floats], routed: _Slots, x: Floats) -> Floats:
        """Return the residual stream."""
        mixed = np.zeros_like(x)
        for (w, tokens, shares), part in zip(routed.slots, hidden, strict=True):
            mixed[tokens] += shares[:, None] * _product(part, w.down)
        return x + self._behind(mixed, self._weights.layers[layer].mlp_post_norm)

    def head(self, x: Floats, *, every: bool) -> Floats:
        """Return this rank's logits."""
        rows = x if every else x[-1:]
        return _product(self._norm(rows, self._weights.norm), self._weights.head)

    def _behind(self, partial: Floats, weight: Floats | None) -> Floats:
        whole = self._group.sum(partial)
        return whole if weight is None else self._norm(whole, weight)

    def _norm(self, x: Floats, weight: Floats) -> Floats:
        mean = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
        return (x / np.sqrt(mean + np.float32(self._architecture.norm_eps)) * weight).astype(np.float32, copy=False)


def _product(x: Floats, matrix: Matrix, bias: Floats | None = None) -> Floats:
    y: Floats = x @ matrix.to_float().T
    return y if bias is None else y + bias


def _silu(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # exp(-x) may be infinite: the quotient is then zero, as it should be
        return (x / (np.float32(1.0) + np.exp(-x))).astype(np.float32, copy=False)


def _rotated(heads: Floats, cos: Floats, sin: Floats, *, interleaved: bool) -> Floats:
    """Turn the pairs of each head; values beyond the rotary dims pass through."""
    pairs = cos.shape[1]
    first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    if interleaved:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    turned = heads.copy()
    c, s = cos[:, None, :], sin[:, None, :]
    turned[:, :, first] = heads[:, :, first] * c - heads[:, :, second] * s
    turned[:, :, second] = heads[:, :, second] * c + heads[:, :, first] * s
    return turned
