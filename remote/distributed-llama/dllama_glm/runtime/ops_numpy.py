"""The operations in plain numpy: the reference that the other implementations are compared with."""

import numpy as np
import numpy.typing as npt

from dllama_glm.runtime.architecture import Routing
from dllama_glm.runtime.matrix import Matrix
from dllama_glm.runtime.routing import choose
from dllama_glm.runtime.weights import ExpertWeights, MlpWeights

FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int64]

FIRST_ROOM = 64  # positions that a new cache has room for; it doubles when full


class NumpyCache:
    """Keys and values of one layer, [kv_heads, room, head_dim] each; `room` grows, so short texts stay cheap."""

    def __init__(self, kv_heads: int, head_dim: int) -> None:
        self.keys = np.zeros((kv_heads, FIRST_ROOM, head_dim), np.float32)
        self.values = np.zeros_like(self.keys)

    def put(self, k: FloatArray, v: FloatArray, position: int) -> None:
        """Store k and v [tokens, kv_heads, head_dim] at `position` and on."""
        end = position + len(k)
        room = self.keys.shape[1]
        if end > room:
            more = ((0, 0), (0, max(2 * room, end) - room), (0, 0))
            self.keys, self.values = np.pad(self.keys, more), np.pad(self.values, more)
        self.keys[:, position:end] = k.transpose(1, 0, 2)
        self.values[:, position:end] = v.transpose(1, 0, 2)


class NumpyOperations:
    """Implements `ops.Operations` on float32 arrays, in the most direct way."""

    def embed(self, table: Matrix, ids: list[int]) -> FloatArray:
        """Return the table's rows of these tokens."""
        return np.concatenate([table.take_rows(range(i, i + 1)).to_float() for i in ids])

    def product(self, x: FloatArray, matrix: Matrix, bias: FloatArray | None = None) -> FloatArray:
        """Return x @ matrix.T + bias."""
        y = x @ matrix.to_float().T
        return y if bias is None else y + bias

    def norm(self, x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
        """Root-mean-square norm over the last axis."""
        mean = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
        return (x / np.sqrt(mean + np.float32(eps)) * weight).astype(np.float32, copy=False)

    def rotate(self, heads: FloatArray, cos: FloatArray, sin: FloatArray, *, interleaved: bool) -> FloatArray:
        """Turn the pairs of each head; values beyond the rotary dims pass through."""
        pairs = cos.shape[1]
        turned = heads.copy()
        if interleaved:
            first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        else:
            first, second = slice(0, pairs), slice(pairs, 2 * pairs)
        c, s = cos[:, None, :], sin[:, None, :]
        turned[:, :, first] = heads[:, :, first] * c - heads[:, :, second] * s
        turned[:, :, second] = heads[:, :, second] * c + heads[:, :, first] * s
        return turned

    def new_cache(self, kv_heads: int, head_dim: int) -> NumpyCache:
        """Return an empty cache of one layer."""
        return NumpyCache(kv_heads, head_dim)

    def attention(
        self, q: FloatArray, k: FloatArray, v: FloatArray, cache: NumpyCache, kv_of_head: list[int], position: int
    ) -> FloatArray:
        """Causal attention over the cache, softmax in float32."""
        cache.put(k, v, position)
        end = position + len(q)
        keys, values = cache.keys[kv_of_head, :end], cache.values[kv_of_head, :end]
        scores = q.transpose(1, 0, 2) @ keys.transpose(0, 2, 1) / np.sqrt(np.float32(q.shape[2]))
        future = np.arange(end)[None, :] > position + np.arange(len(q))[:, None]
        scores = np.where(future[None], np.float32(-np.inf), scores)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return (shares @ values).transpose(1, 0, 2).reshape(len(q), -1)

    def gated(self, gate: FloatArray, up: FloatArray) -> FloatArray:
        """Return silu(gate) * up."""
        with np.errstate(over="ignore"):  # exp(-gate) may be infinite: the quotient is then zero, as it should be
            return (gate / (np.float32(1.0) + np.exp(-gate)) * up).astype(np.float32, copy=False)

    def route(
        self, logits: FloatArray, correction: FloatArray | None, routing: Routing
    ) -> tuple[IndexArray, FloatArray]:
        """Choose experts and their weights."""
        return choose(logits, correction, routing)

    def experts(self, x: FloatArray, chosen: IndexArray, weights: FloatArray, experts: ExpertWeights) -> FloatArray:
        """Run each chosen expert once, over all the tokens that chose it."""
        mixed = np.zeros_like(x)
        for number in np.unique(chosen):
            tokens, slots = np.nonzero(chosen == number)
            mixed[tokens] += weights[tokens, slots][:, None] * self._mlp(x[tokens], experts.experts[number])
        return mixed

    def add(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return x + y."""
        return x + y

    def to_numpy(self, x: FloatArray) -> FloatArray:
        """Return x: it is on the host already."""
        return x

    def _mlp(self, x: FloatArray, w: MlpWeights) -> FloatArray:
        return self.product(self.gated(self.product(x, w.gate), self.product(x, w.up)), w.down)
