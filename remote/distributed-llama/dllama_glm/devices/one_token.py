"""The half-layer operations for one token: six launches a layer, which a graph can hold."""

from typing import Any

import torch

from dllama_glm.devices.cache import Cache
from dllama_glm.devices.layout import Blocks, CardWeights, Layer
from dllama_glm.devices.shape import BLOCK, Shape, power
from dllama_glm.kernels.cuda import attention, experts, inputs, rows
from dllama_glm.kernels.cuda import routing as routing_kernels
from dllama_glm.runtime.device import Tensor as Pointer

_PART = 1024  # values of a program that moves or compares them


class Activations:
    """Values on their way into a product: bytes with scale and offset for each block, or float32."""

    def __init__(self, size: int, shape: Shape, *, floats: bool = False) -> None:
        blocks = max(1, size // BLOCK)
        floats = floats or shape.exact
        self.stored = torch.zeros(max(size, 1), dtype=torch.float32 if floats else torch.int8, device=shape.place)
        self.scale, self.offset = (torch.zeros(blocks, dtype=torch.float32, device=shape.place) for _ in range(2))

    @property
    def taken(self) -> tuple[Pointer, Pointer, Pointer]:
        """As a product reads them: bytes in words of four."""
        words = self.stored if self.stored.dtype == torch.float32 else self.stored.view(torch.int32)
        return words, self.scale, self.offset

    @property
    def given(self) -> tuple[Pointer, Pointer, Pointer]:
        """As a kernel stores them."""
        return self.stored, self.scale, self.offset


class OneToken:
    """Computes on the token and the position that `token` and `position`, on the card, hold.

    `x` is the residual stream; with several ranks `partial` holds this rank's part until `settle` adds it.
    """

    def __init__(self, shape: Shape, weights: CardWeights, cache: Cache, *, alone: bool) -> None:
        self._shape, self._weights, self._cache, self._alone = shape, weights, cache, alone
        a, place = shape.architecture, shape.place

        def floats(size: int) -> torch.Tensor:
            return torch.zeros(max(size, 1), dtype=torch.float32, device=place)

        def numbers(size: int) -> torch.Tensor:
            return torch.zeros(max(size, 1), dtype=torch.int32, device=place)

        self.token, self.position = numbers(1), numbers(1)
        self.x, self.partial = floats(shape.dim), floats(shape.dim)
        self._q = floats(shape.heads * shape.head)
        splits = shape.tiles["attention"]["splits"]
        own = shape.kv_heads * splits * shape.rows
        self._parts = (floats(own * shape.lanes), floats(own), floats(own), numbers(shape.kv_heads))
        self._mixed = Activations(shape.heads * shape.head, shape, floats=not shape.bytes_mixed)
        self._normed = Activations(shape.dim, shape)
        widest = max((layer.active * layer.width + layer.shared for layer in weights.layers), default=0)
        self._hidden = Activations(widest, shape)
        self._scores = floats(2 * a.routing.experts if a.routing else 0)
        self._chosen = numbers(a.routing.active if a.routing else 0)
        self.logits = floats(weights.head.rows)
        self._best_parts = -(-weights.head.rows // _PART)
        self._tops, self._places = floats(self._best_parts), numbers(self._best_parts)
        self.own = numbers(2)

    def embed(self) -> None:
        """Fill x with the token's row."""
        grid = (-(-self._shape.dim // _PART),)
        rows.embed[grid](self._weights.embedding, self.token, self.x, DIM=self._shape.dim, PART=_PART)

    def attend_inputs(self, layer: int) -> None:
        """Compute the queries, and put keys and values into the cache."""
        shape, cache, w = self._shape, self._cache, self._weights.layers[layer]
        a, tile = shape.architecture, shape.tiles["inputs"]
        pairs = power(shape.head // 2) if a.qk_norm else min(tile["pairs"], power(shape.head // 2))
        grid = (shape.heads + 2 * shape.kv_heads, -(-(shape.head // 2) // pairs))
        nothing = self.x
        inputs.attend_inputs[grid](
            self.x, w.attention_norm, w.qkv.codes, w.qkv.scales, _or(w.bias, nothing), _or(w.q_norm, nothing),
            _or(w.k_norm, nothing), cache.cos, cache.sin, self.position, self._q, cache.keys[layer],
            cache.values[layer], a.norm_eps, shape.capacity, DIM=shape.dim, WIDTH=power(shape.dim), HEADS=shape.heads,
            KV_HEADS=shape.kv_heads, HEAD=shape.head, TURNED=shape.turned, PAIRS=pairs,
            BLOCKS=_blocks(tile, shape.dim), INTERLEAVED=a.rotary.interleaved, BIAS=w.bias is not None,
            QK_NORM=a.qk_norm, EXACT=shape.exact, num_warps=tile["warps"],
        )  # fmt: skip

    def attention(self, layer: int) -> None:
        """Mix the cache's values by the queries."""
        shape, cache, tile = self._shape, self._cache, self._shape.tiles["attention"]
        attention.attend[(shape.kv_heads, 1, tile["splits"])](
            self._q, cache.keys[layer], cache.values[layer], cache.first_heads, self.position, *self._parts,
            *self._mixed.given, 1, shape.capacity, shape.architecture.window, shape.head**-0.5,
            HEADS=shape.heads, HEAD=shape.head, LANES=shape.lanes, ROWS=shape.rows, POSITIONS=tile["positions"],
            SPLITS=tile["splits"], BYTES=shape.bytes_mixed, EXACT=shape.exact, num_warps=tile["warps"],
        )  # fmt: skip

    def attend_output(self, layer: int) -> bool:
        """Add the output matrix's product to x; False: it is in `partial`, to be summed and settled."""
        w, shape = self._weights.layers[layer], self._shape
        adds = self._alone and w.attention_post is None
        out = self.x if adds else self.partial
        cut = not shape.exact and not shape.bytes_mixed
        self._multiply("output", self._mixed, w.o, out, shape.heads * shape.head, ADD=adds, CUT=cut)
        return adds

    def route(self, layer: int) -> None:
        """Norm x, and score the experts."""
        w = self._weights.layers[layer]
        self._norm(w.mlp_norm, w)

    def expand(self, layer: int) -> None:
        """Compute every slot's hidden values; the experts are chosen on the way."""
        w, shape, tile = self._weights.layers[layer], self._shape, self._shape.tiles["expand"]
        slots = w.active + bool(w.shared)
        grid = (-(-max(w.width * bool(w.active), w.shared) // tile["rows"]), slots)
        if grid[0] and slots:
            experts.expand[grid](
                *self._normed.taken, self._scores, _or(w.correction, self._scores), w.gate.codes, w.gate.scales,
                w.up.codes, w.up.scales, self._chosen, *self._hidden.given, _share_scale(shape), DIM=shape.dim,
                **_stack(w), **_routing(shape, w), ROWS=tile["rows"], BLOCKS=_blocks(tile, shape.dim),
                EXACT=shape.exact, num_warps=tile["warps"],
            )  # fmt: skip

    def contract(self, layer: int) -> bool:
        """Add the slots' sum to x; False: it is in `partial`, to be summed and settled."""
        w, shape, tile = self._weights.layers[layer], self._shape, self._shape.tiles["contract"]
        adds = self._alone and w.mlp_post is None
        experts.contract[(-(-shape.dim // tile["rows"]),)](
            *self._hidden.taken, self._chosen, w.down.codes, w.down.scales, self.x if adds else self.partial,
            DIM=shape.dim, **_stack(w), ROWS=tile["rows"], BLOCKS=_blocks(tile, max(w.width, w.shared, BLOCK)),
            ADD=adds, EXACT=shape.exact, num_warps=tile["warps"],
        )  # fmt: skip
        return adds

    def settle(self, norm: torch.Tensor | None) -> None:
        """Add the ranks' sum to x, through the norm behind the half layer if there is one."""
        eps, dim = self._shape.architecture.norm_eps, self._shape.dim
        rows.settle[(1,)](
            self.x, self.partial, _or(norm, self.x), eps, DIM=dim, WIDTH=power(dim), NORMED=norm is not None
        )

    def score(self) -> None:
        """Fill `logits` with this rank's rows of the vocabulary."""
        self._norm(self._weights.norm, None)
        self._multiply("head", self._normed, self._weights.head, self.logits, self._shape.dim, ADD=False, CUT=False)

    def choose(self, *, alone: bool) -> None:
        """Find the best of `logits`: alone it is the next token, otherwise `own` gets its value and its place."""
        count = self._best_parts
        rows.best_of_part[(count,)](self.logits, self._tops, self._places, len(self.logits), PART=_PART)
        self._best(self._tops, self._places, self._places, count, STRIDE=1, RANKS=False, LAST=alone)

    def choose_of_ranks(self, found: torch.Tensor, firsts: torch.Tensor) -> None:
        """Make the best of the ranks' `own` [ranks, 2] the next token; `firsts` are their first rows."""
        tops, places = found.view(torch.float32), found.view(-1)[1:]
        self._best(tops, places, firsts, len(found), STRIDE=2, RANKS=True, LAST=True)

    def _best(self, tops: Pointer, places: Pointer, firsts: Pointer, count: int, **options: Any) -> None:
        rows.best[(1,)](
            tops, places, firsts, self.token, self.position, self.own, count, MOST=max(2, power(count)), **options
        )

    def _norm(self, norm: torch.Tensor, layer: Layer | None) -> None:
        """Norm x; for a layer with experts score them."""
        shape, dim = self._shape, self._shape.dim
        routing = shape.architecture.routing if layer is not None and layer.active else None
        count = layer.experts if layer is not None and routing is not None else 0
        blocks = dim // BLOCK
        programs = max(count, min(blocks, 32))
        correction, router = (layer.correction, layer.router) if layer is not None else (None, None)
        routing_kernels.route[(programs,)](
            self.x, norm, _or(router, self.x), _or(correction, self.x), self._scores, *self._normed.given,
            shape.architecture.norm_eps, DIM=dim, WIDTH=power(dim), EXPERTS=count,
            SIGMOID=routing is not None and routing.sigmoid, CORRECTED=correction is not None,
            BLOCKS=power(-(-blocks // programs)), EXACT=shape.exact, num_warps=shape.tiles["route"]["warps"],
        )  # fmt: skip

    def _multiply(
        self, name: str, x: Activations, matrix: Blocks, out: torch.Tensor, columns: int, **options: bool
    ) -> None:
        tile = self._shape.tiles[name]
        rows.multiply[(-(-matrix.rows // tile["rows"]),)](
            *x.taken, matrix.codes, matrix.scales, out, matrix.rows, COLUMNS=columns, ROWS=tile["rows"],
            BLOCKS=_blocks(tile, columns), EXACT=self._shape.exact, num_warps=tile["warps"], **options,
        )  # fmt: skip


def run_layer(one: OneToken, layer: int) -> None:
    """All six launches of a layer, for whoever measures it alone."""
    one.attend_inputs(layer)
    one.attention(layer)
    one.attend_output(layer)
    one.route(layer)
    one.expand(layer)
    one.contract(layer)


def _or(tensor: torch.Tensor | None, other: torch.Tensor) -> torch.Tensor:
    return other if tensor is None else tensor


def _blocks(tile: dict[str, int], columns: int) -> int:
    """Blocks of a row at a time: as the table says, and no more than there are."""
    return min(tile["blocks"], power(columns // BLOCK))


def _stack(layer: Layer) -> dict[str, int]:
    return {"WIDTH": layer.width, "SHARED": layer.shared, "EXPERTS": layer.experts, "ACTIVE": layer.active}


def _share_scale(shape: Shape) -> float:
    return shape.architecture.routing.scale if shape.architecture.routing else 1.0


def _routing(shape: Shape, layer: Layer) -> dict[str, Any]:
    routing = shape.architecture.routing
    if routing is None or not layer.active:
        return dict.fromkeys(("GROUPS", "MOST", "EACH", "KEPT"), 1) | dict.fromkeys(
            ("SIGMOID", "NORMALISE", "CORRECTED"), False
        )
    return {
        "GROUPS": routing.groups, "MOST": power(routing.groups), "EACH": power(routing.experts // routing.groups),
        "KEPT": routing.groups_kept, "SIGMOID": routing.sigmoid, "NORMALISE": routing.normalise,
        "CORRECTED": layer.correction is not None,
    }  # fmt: skip
