"""The operations over which the forward pass is written, and the ranks that share a model.

`Tensor` stands for whatever a device computes on. A pass reads `tokens` tokens from `position` on; what an operation
returns holds until the next pass, and may be the room that it was given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Tensor: TypeAlias = Any


@dataclass(frozen=True)
class At:
    """Which tokens a pass reads."""

    position: int
    tokens: int


class Group(Protocol):
    """The ranks that share one model."""

    rank: int
    ranks: int

    def sum(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the sum of all ranks' x, the same on every rank."""

    def join_columns(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Put the ranks' columns side by side, on rank 0; None elsewhere."""

    def best(self, columns: npt.NDArray[np.float32], first: int) -> int:
        """Return where the largest of all ranks' logits stands, the lowest place of equal ones; the same on every rank.

        `columns` [1, width] are this rank's, of which the first is the vocabulary's number `first`.
        """


class Steps(Protocol):
    """Passes over single tokens, for a device that makes them faster than by operations one by one."""

    def token(self, token: int, position: int) -> int:
        """Read a token at its position; return the best one to follow, of all ranks' rows."""

    def columns(self, token: int, position: int) -> npt.NDArray[np.float32]:
        """Read a token at its position; return this rank's logits [1, its rows]."""


class Device(Protocol):
    """One rank's part of a model, ready on its device, with the cache of the tokens seen.

    With several ranks `attend_output` and `contract` add up the ranks' parts, so that the residual stream is whole on
    every rank. Layers are numbered from 0. `described` is how it computes, in the words of `--json`.
    """

    described: dict[str, Any]

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from the next pass on, at most those that it was made with."""

    def steps(self, layers: Callable[[list[int], int], Tensor]) -> Steps | None:
        """Return what makes passes over single tokens, given the pass through all layers; None: nothing is faster."""

    def embed(self, ids: list[int]) -> Tensor:
        """Return the residual stream of these tokens: float32 [tokens, dim]."""

    def attend_inputs(self, layer: int, x: Tensor, at: At) -> Tensor:
        """Norm, queries, keys and values (bias, norms of heads, rotation); keys and values go into the cache."""

    def attention(self, layer: int, q: Tensor, at: At) -> Tensor:
        """Causal attention of the queries over the cache, within the model's window."""

    def attend_output(self, layer: int, mixed: Tensor, x: Tensor) -> Tensor:
        """Return x and what the output matrix (and its norm, if there is one) makes of the heads' results."""

    def route(self, layer: int, x: Tensor) -> Tensor:
        """Norm, and the experts of each token: scored in float32, with their shares. A dense layer has one slot."""

    def expand(self, layer: int, routed: Tensor) -> Tensor:
        """silu(gate) * up of every token's slots: its experts, and the shared one."""

    def contract(self, layer: int, hidden: Tensor, routed: Tensor, x: Tensor) -> Tensor:
        """Return x and the slots' results by their shares (through the norm behind them, if there is one)."""

    def head(self, x: Tensor, *, every: bool) -> npt.NDArray[np.float32]:
        """Return this rank's logits [n, its rows], after the last token or after each."""
