"""A card: the half-layer operations as triton kernels, one token at a time by a captured graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from dllama_glm.devices.cache import Cache
from dllama_glm.devices.card import Card
from dllama_glm.devices.card_steps import CardBench, CardGraph
from dllama_glm.devices.host_sums import HostSums
from dllama_glm.devices.layout import check_storage, lay_out
from dllama_glm.devices.one_token import OneToken
from dllama_glm.devices.prompt import Hidden, Prompt, Routed
from dllama_glm.devices.shape import shape_of
from dllama_glm.devices.steps import Graph, Repeated, Steps
from dllama_glm.devices.tiles import Tile, tiles_for
from dllama_glm.parallel.shard import Shard
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import At, Group
from dllama_glm.runtime.weights import Weights

Floats: TypeAlias = npt.NDArray[np.float32]
Stream: TypeAlias = OneToken | torch.Tensor  # one token's room, or many tokens' rows


class CudaDevice:
    """Implements `runtime.device.Device` on a card, or where triton interprets on the CPU.

    `exact`: all arithmetic, keys and values are float32. Otherwise one token's activations meet the weights as signed
    bytes, many tokens' as halves, and the cache holds bfloat16. `tiles` None: what the table says for the card.
    """

    def __init__(  # noqa: PLR0913 - what a rank is, and how it shall compute
        self, weights: Weights, architecture: Architecture, shard: Shard, group: Group, capacity: int,
        *, card: Card, exact: bool = False, tiles: dict[str, Tile] | None = None,
    ) -> None:  # fmt: skip
        check_storage(weights)
        place = torch.device(card.place)
        self._group, self._alone = group, group.ranks == 1
        self._through_host = HostSums(group, place)
        self._shape = shape_of(architecture, shard, capacity, place, tiles or tiles_for(card.capability), exact=exact)
        self._laid = lay_out(weights, architecture, place)
        cache = Cache(self._shape, shard)
        self._one = OneToken(self._shape, self._laid, cache, alone=self._alone)
        self._many = Prompt(self._shape, self._laid, cache, self._one.position)
        self._reads_its_own = False
        self._steps: Steps | None = None
        self.described: dict[str, Any] = card.described | {
            "arithmetic": "f32" if exact else "int8",
            "weights": "resident",
            "graph": place.type == "cuda" and (self._alone or on_card(group)),
            "sums": "none" if self._alone else "nccl" if on_card(group) else "gloo",
        }

    def use_threads(self, threads: int) -> None:
        """A card has no threads to choose."""

    def steps(self, layers: Callable[[list[int], int], Any]) -> Steps | None:
        """Return the captured step; None where the ranks' sums go through the host, which no graph can hold."""
        if not self._alone and not on_card(self._group):
            return None
        bench = CardBench(self, self._one, layers, alone=self._alone)
        graph: Graph = CardGraph() if self._shape.place.type == "cuda" else Repeated()
        self._steps = Steps(bench.work, graph, bench, self._shape.capacity)
        return self._steps

    def norms_behind(self, layer: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the norms behind a layer's halves, where the model has them."""
        w = self._laid.layers[layer]
        return w.attention_post, w.mlp_post

    @contextmanager
    def reading_its_own(self) -> Iterator[None]:
        """Within the block a pass over one token reads what lies on the card, and is given nothing."""
        self._reads_its_own = True
        try:
            yield
        finally:
            self._reads_its_own = False

    def embed(self, ids: list[int]) -> Stream:
        """Begin a pass: return one token's room, or the rows of many."""
        if not self._reads_its_own and self._steps is not None:
            self._steps.forget()
        if len(ids) > 1:
            return self._many.embed(ids)
        if not self._reads_its_own:
            self._one.token.fill_(ids[0])
        self._one.embed()
        return self._one

    def attend_inputs(self, layer: int, x: Stream, at: At) -> Stream:
        """Return the queries."""
        if layer == 0 and not self._reads_its_own:
            self._one.position.fill_(at.position)
        if not isinstance(x, OneToken):
            return self._many.attend_inputs(layer, x, at)
        x.attend_inputs(layer)
        return x

    def attention(self, layer: int, q: Stream, at: At) -> Stream:
        """Return the heads' results."""
        if not isinstance(q, OneToken):
            return self._many.attention(layer, q, at)
        q.attention(layer)
        return q

    def attend_output(self, layer: int, mixed: Stream, x: Stream) -> Stream:
        """Return the residual stream."""
        norm = self._laid.layers[layer].attention_post
        if not isinstance(x, OneToken):
            return self._many.settle(x, self._summed(self._many.attend_output(layer, mixed)), norm)
        if not x.attend_output(layer):
            self._summed(x.partial)
            x.settle(norm)
        return x

    def route(self, layer: int, x: Stream) -> OneToken | Routed:
        """Return the normed tokens with their experts."""
        if not isinstance(x, OneToken):
            return self._many.route(layer, x)
        x.route(layer)
        return x

    def expand(self, layer: int, routed: OneToken | Routed) -> OneToken | Hidden:
        """Return every slot's hidden row."""
        if not isinstance(routed, OneToken):
            return self._many.expand(layer, routed)
        routed.expand(layer)
        return routed

    def contract(self, layer: int, hidden: Any, routed: Any, x: Stream) -> Stream:
        """Return the residual stream."""
        norm = self._laid.layers[layer].mlp_post
        if not isinstance(x, OneToken):
            return self._many.settle(x, self._summed(self._many.contract(layer, hidden, routed)), norm)
        if not x.contract(layer):
            self._summed(x.partial)
            x.settle(norm)
        return x

    def head(self, x: Stream, *, every: bool) -> Floats:
        """Return this rank's logits, on the host."""
        if isinstance(x, OneToken):
            x.score()
            return x.logits.cpu().numpy()[None].copy()
        found: Floats = self._many.score(x if every else x[-1:]).cpu().numpy()
        return found

    def choose(self) -> None:
        """Make the best of all ranks' logits the next token, on the card."""
        self._one.score()
        self._one.choose(alone=self._alone)
        if not self._alone:
            found, firsts = self._group.best_on_card(self._one.own)  # type: ignore[attr-defined] # `on_card` has asked
            self._one.choose_of_ranks(found, firsts)

    def _summed(self, partial: torch.Tensor) -> torch.Tensor:
        if self._alone:
            return partial
        if on_card(self._group):
            return self._group.sum_on_card(partial)  # type: ignore[attr-defined] # `on_card` has asked
        return self._through_host.sum(partial)


def on_card(group: Group) -> bool:
    """Whether the ranks' sums stay on their cards."""
    return bool(getattr(group, "on_card", False))
