"""The forward pass of every architecture, written once over the operations of `ops.py`."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from dllama_glm.parallel.shard import Shard
from dllama_glm.runtime import rotary
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.ops import Operations, Tensor
from dllama_glm.runtime.weights import AttentionWeights, LayerWeights, MixtureWeights, MlpWeights, Weights


class Group(Protocol):
    """The ranks that share one model."""

    rank: int
    ranks: int

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of all ranks' x, the same on every rank."""

    def join_columns(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Put the ranks' columns side by side, on rank 0; None elsewhere."""


class Model:
    """One rank's part of a model, with the cache of the tokens that it has seen."""

    def __init__(
        self, architecture: Architecture, shard: Shard, weights: Weights, operations: Operations, group: Group
    ) -> None:
        self.architecture = architecture
        self._ops = operations
        self._group = group
        self._weights = weights
        self._kv_heads = len(shard.kv_heads)
        self._kv_of_head = shard.kv_of_head(architecture)
        self._frequency = rotary.frequencies(architecture.rotary)
        self.reset()

    def reset(self) -> None:
        """Forget all tokens."""
        width = self.architecture.head_dim
        self._caches = [self._ops.new_cache(self._kv_heads, width) for _ in range(self.architecture.layers)]

    def forward(self, ids: list[int], position: int, *, every: bool = False) -> npt.NDArray[np.float32] | None:
        """Read tokens at `position` and on; return the logits float32 [n, vocab] on rank 0, None on the others.

        n is 1 (after the last token), or with `every` the number of tokens. What the cache holds from `position` on
        is replaced, so going back to an earlier position needs no reset.
        """
        ops, weights = self._ops, self._weights
        cos_sin = rotary.angles(self._frequency, position, len(ids))
        x = ops.embed(weights.embedding, ids)
        for layer, cache in zip(weights.layers, self._caches, strict=True):
            x = self._layer(layer, cache, x, position, cos_sin)
        if not every:
            x = x[-1:]
        logits = ops.product(ops.norm(x, weights.norm, self.architecture.norm_eps), weights.head)
        return self._group.join_columns(ops.to_numpy(logits))

    def greedy(self, ids: list[int], position: int) -> int:
        """Read tokens; return the best next one of all rows, the first of equals; on rank 0."""
        logits = self.forward(ids, position)
        assert logits is not None, "only rank 0 chooses tokens"
        return int(np.argmax(logits[-1]))

    def _layer(self, layer: LayerWeights, cache: Tensor, x: Tensor, position: int, cos_sin: Tensor) -> Tensor:
        ops, eps = self._ops, self.architecture.norm_eps
        normed = ops.norm(x, layer.attention_norm, eps)
        mixed = self._group.sum(self._attention(layer.attention, cache, normed, position, cos_sin))
        if layer.attention_post_norm is not None:
            mixed = ops.norm(mixed, layer.attention_post_norm, eps)
        x = ops.add(x, mixed)
        normed = ops.norm(x, layer.mlp_norm, eps)
        if isinstance(layer.mlp, MixtureWeights):
            changed = self._group.sum(self._mixture(layer.mlp, normed))
        else:
            changed = self._group.sum(self._mlp(layer.mlp, normed))
        if layer.mlp_post_norm is not None:
            changed = ops.norm(changed, layer.mlp_post_norm, eps)
        return ops.add(x, changed)

    def _attention(self, w: AttentionWeights, cache: Tensor, x: Tensor, position: int, cos_sin: Tensor) -> Tensor:
        ops, eps, width = self._ops, self.architecture.norm_eps, self.architecture.head_dim
        q = ops.product(x, w.q, w.q_bias).reshape(len(x), -1, width)
        k = ops.product(x, w.k, w.k_bias).reshape(len(x), -1, width)
        v = ops.product(x, w.v, w.v_bias).reshape(len(x), -1, width)
        if w.q_norm is not None and w.k_norm is not None:
            q, k = ops.norm(q, w.q_norm, eps), ops.norm(k, w.k_norm, eps)
        interleaved = self.architecture.rotary.interleaved
        q, k = (ops.rotate(heads, *cos_sin, interleaved=interleaved) for heads in (q, k))
        return ops.product(ops.attention(q, k, v, cache, self._kv_of_head, position), w.o)

    def _mlp(self, w: MlpWeights, x: Tensor) -> Tensor:
        ops = self._ops
        return ops.product(ops.gated(ops.product(x, w.gate), ops.product(x, w.up)), w.down)

    def _mixture(self, w: MixtureWeights, x: Tensor) -> Tensor:
        ops, routing = self._ops, self.architecture.routing
        assert routing is not None
        chosen, shares = ops.route(ops.product(x, w.router), w.correction, routing)
        mixed = ops.experts(x, chosen, shares, w.routed)
        return mixed if w.shared is None else ops.add(mixed, self._mlp(w.shared, x))
