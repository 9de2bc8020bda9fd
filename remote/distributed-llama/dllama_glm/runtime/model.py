"""The forward pass of every architecture, written once over the operations of a device."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import At, Device, Group

CHUNK = 512  # tokens of one pass through the layers: bounds the room that a long prompt needs


class Model:
    """One rank's part of a model, with the cache of the tokens that it has seen.

    `first` is the vocabulary's number of this rank's first row of the output matrix; `capacity` is how many positions
    the cache has.
    """

    def __init__(self, architecture: Architecture, device: Device, group: Group, *, first: int, capacity: int) -> None:
        self.architecture = architecture
        self.capacity = capacity
        self._device = device
        self._group = group
        self._first = first
        self._steps = device.steps(self._layers)

    @property
    def computed_by(self) -> dict[str, Any]:
        """How this rank computes: threads, vector instructions, threading layer, arithmetic, where the weights are."""
        return self._device.described

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from the next pass on, at most those that it was loaded with."""
        self._device.use_threads(threads)

    def reset(self) -> None:
        """Forget all tokens: what is read next replaces them."""

    def forward(self, ids: list[int], position: int, *, every: bool = False) -> npt.NDArray[np.float32] | None:
        """Read tokens at `position` and on; return the logits float32 [n, vocab] on rank 0, None on the others.

        n is 1 (after the last token), or with `every` the number of tokens. What the cache holds from `position` on
        is replaced, so going back to an earlier position needs no reset.
        """
        return self._group.join_columns(self._columns(ids, position, every=every))

    def greedy(self, ids: list[int], position: int) -> int:
        """Read tokens as `forward` does; return the best token to follow, the lowest number of equal ones.

        Only the ranks' best are compared, so the vocabulary is not gathered; every rank gets the token.
        """
        if self._steps is not None and len(ids) == 1:
            self._check(ids, position)
            return self._steps.token(ids[0], position)
        return self._group.best(self._columns(ids, position, every=False), self._first)

    def _columns(self, ids: list[int], position: int, *, every: bool) -> npt.NDArray[np.float32]:
        """Run the layers over the tokens, chunk by chunk; return this rank's columns of the logits."""
        self._check(ids, position)
        if self._steps is not None and len(ids) == 1:
            return self._steps.columns(ids[0], position)
        found = []
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            x = self._layers(part, position + start)
            if every or start + CHUNK >= len(ids):
                found.append(self._device.head(x, every=every))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _check(self, ids: list[int], position: int) -> None:
        assert 0 <= position <= position + len(ids) <= self.capacity, "the cache was made for fewer positions"

    def _layers(self, ids: list[int], position: int) -> object:
        device, at = self._device, At(position, len(ids))
        x = device.embed(ids)
        for layer in range(self.architecture.layers):
            mixed = device.attention(layer, device.attend_inputs(layer, x, at), at)
            x = device.attend_output(layer, mixed, x)
            routed = device.route(layer, x)
            x = device.contract(layer, device.expand(layer, routed), routed, x)
        return x
