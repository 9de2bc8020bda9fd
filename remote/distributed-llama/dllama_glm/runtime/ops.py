"""The narrow set of operations over which the forward pass is written.

`Tensor` stands for whatever an implementation computes on (numpy arrays on the CPU). Activations are float32
[tokens, width]; heads are [tokens, heads, head_dim]. A returned tensor is the caller's to keep or to change, and an
implementation may return its result in the place of an argument: heads of `rotate`, gate of `gated`, y of `add`.
"""

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.runtime.architecture import Routing
from dllama_glm.runtime.matrix import Matrix
from dllama_glm.runtime.weights import ExpertWeights

Tensor: TypeAlias = Any
Vector: TypeAlias = npt.NDArray[np.float32]


class Cache(Protocol):
    """The keys (rotated) and values of one layer's past tokens."""


class Operations(Protocol):
    """What a device must be able to do."""

    def embed(self, table: Matrix, ids: list[int]) -> Tensor:
        """Return the table's rows of these tokens [tokens, width]."""

    def product(self, x: Tensor, matrix: Matrix, bias: Vector | None = None) -> Tensor:
        """Return x @ matrix.T (+ bias) [tokens, matrix.rows]."""

    def norm(self, x: Tensor, weight: Vector, eps: float) -> Tensor:
        """Divide the last axis by its root mean square and scale it by the weight."""

    def rotate(self, heads: Tensor, cos: Vector, sin: Vector, *, interleaved: bool) -> Tensor:
        """Turn the first values of each head by the angles cos, sin [tokens, pairs]."""

    def new_cache(self, kv_heads: int, head_dim: int) -> Cache:
        """Return an empty cache of one layer; it grows with what is put into it."""

    def attention(self, q: Tensor, k: Tensor, v: Tensor, cache: Any, kv_of_head: list[int], position: int) -> Tensor:
        """Put k and v into the cache from `position` on, then attend causally; return [tokens, heads * head_dim]."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return silu(gate) * up."""

    def route(self, logits: Tensor, correction: Vector | None, routing: Routing) -> tuple[Tensor, Tensor]:
        """Choose experts: their numbers and their weights, both [tokens, active]."""

    def experts(self, x: Tensor, chosen: Tensor, weights: Tensor, experts: ExpertWeights) -> Tensor:
        """Return the chosen experts' results, weighted and summed [tokens, width]."""

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x + y."""

    def to_numpy(self, x: Tensor) -> npt.NDArray[np.float32]:
        """Bring a result to the host."""
