"""The half-layer operations for many tokens: matrix products in halves, tokens grouped by their experts."""

from dataclasses import dataclass

import torch

from dllama_glm.devices.cache import Cache
from dllama_glm.devices.layout import Blocks, CardWeights
from dllama_glm.devices.shape import Shape, power
from dllama_glm.kernels.cuda import attention, panels, rows
from dllama_glm.runtime.architecture import Routing
from dllama_glm.runtime.device import At

_ROWS = 64  # of attention's tile: query heads of several tokens


@dataclass(frozen=True)
class Routed:
    """The normed tokens, and with experts their choice and its shares [tokens, active]."""

    normed: torch.Tensor
    chosen: torch.Tensor | None
    shares: torch.Tensor | None


@dataclass(frozen=True)
class Sorted:
    """The tokens' slots by expert: `order` int32 [slots]; parts of equal size that hold one expert's each."""

    order: torch.Tensor
    expert: torch.Tensor
    first: torch.Tensor
    end: torch.Tensor

    @property
    def parts(self) -> int:
        """How many parts there are, some of them empty."""
        return len(self.expert)


@dataclass(frozen=True)
class Hidden:
    """Hidden rows: of the experts' slots in their order, and of the shared network; None without it."""

    routed: torch.Tensor | None
    slots: Sorted | None
    shared: torch.Tensor | None


class Prompt:
    """Computes on float32 tensors [tokens, dim]; `position`, on the card, is the first token's."""

    def __init__(self, shape: Shape, weights: CardWeights, cache: Cache, position: torch.Tensor) -> None:
        self._shape, self._weights, self._cache, self._position = shape, weights, cache, position
        self._kind = torch.float32 if shape.exact else torch.float16
        self._nothing = torch.zeros(1, dtype=torch.int32, device=shape.place)

    def embed(self, ids: list[int]) -> torch.Tensor:
        """Return the tokens' rows."""
        return self._weights.embedding[torch.tensor(ids)].to(self._shape.place)

    def attend_inputs(self, layer: int, x: torch.Tensor, at: At) -> torch.Tensor:
        """Return the queries [tokens, heads, head]; keys and values go into the cache."""
        shape, cache, w = self._shape, self._cache, self._weights.layers[layer]
        y = self._product(self._norm(x, w.attention_norm).to(self._kind), w.qkv, shape.dim)
        y = y if w.bias is None else y + w.bias
        q, k, v = y.view(at.tokens, -1, shape.head).split([shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
        if w.q_norm is not None and w.k_norm is not None:
            q, k = self._norm(q, w.q_norm), self._norm(k, w.k_norm)
        q, k = self._rotated(q, at), self._rotated(k, at)
        places = slice(at.position, at.position + at.tokens)
        cache.keys[layer][:, places] = k.transpose(0, 1).to(shape.cache_kind)
        cache.values[layer][:, places] = v.transpose(0, 1).to(shape.cache_kind)
        return q.contiguous()

    def attention(self, layer: int, q: torch.Tensor, at: At) -> torch.Tensor:
        """Return the heads' results [tokens, heads * head]."""
        shape, cache, tile = self._shape, self._cache, self._shape.tiles["attention"]
        out = torch.empty((at.tokens, shape.heads * shape.head), dtype=self._kind, device=shape.place)
        none = self._nothing
        attention.attend[(shape.kv_heads, -(-at.tokens * shape.group // _ROWS), 1)](
            q, cache.keys[layer], cache.values[layer], cache.first_heads, self._position, none, none, none, none,
            out, none, none, at.tokens, shape.capacity, shape.architecture.window, shape.head**-0.5,
            HEADS=shape.heads, HEAD=shape.head, LANES=shape.lanes, ROWS=_ROWS, POSITIONS=tile["positions"],
            SPLITS=1, BYTES=False, EXACT=shape.exact, num_warps=tile["warps"],
        )  # fmt: skip
        return out

    def attend_output(self, layer: int, mixed: torch.Tensor) -> torch.Tensor:
        """Return what is to be summed and settled."""
        return self._product(mixed, self._weights.layers[layer].o, self._shape.heads * self._shape.head)

    def route(self, layer: int, x: torch.Tensor) -> Routed:
        """Norm the tokens and choose their experts."""
        w, routing = self._weights.layers[layer], self._shape.architecture.routing
        normed = self._norm(x, w.mlp_norm)
        if routing is None or w.router is None or not w.active:
            return Routed(normed.to(self._kind), None, None)
        chosen, shares = choose(normed @ w.router.view(routing.experts, -1).T, w.correction, routing)
        return Routed(normed.to(self._kind), chosen, shares)

    def expand(self, layer: int, routed: Routed) -> Hidden:
        """Return silu(gate) * up of every slot."""
        w, dim = self._weights.layers[layer], self._shape.dim
        own = slots = shared = None
        if routed.chosen is not None:
            slots = sort_slots(routed.chosen, w.experts, self._shape.tiles["group"]["tokens"])
            own = self._panel(routed.normed, w.gate, dim, w.width, slots=slots, active=w.active, up=w.up)
        if w.shared:
            stacked = w.experts * w.width
            gate, up = w.gate.behind(stacked, dim), w.up.behind(stacked, dim)
            shared = self._panel(routed.normed, gate, dim, w.shared, up=up)
        return Hidden(own, slots, shared)

    def contract(self, layer: int, hidden: Hidden, routed: Routed) -> torch.Tensor:
        """Return the slots' weighted sum, which is to be summed over the ranks and settled."""
        w, dim = self._weights.layers[layer], self._shape.dim
        y = torch.zeros((len(routed.normed), dim), dtype=torch.float32, device=self._shape.place)
        if hidden.routed is not None and routed.shares is not None:
            parts = self._panel(hidden.routed, w.down, w.width, dim, slots=hidden.slots, active=w.active, scatter=True)
            y += (parts.view(len(y), w.active, dim) * routed.shares[:, :, None]).sum(dim=1)
        if hidden.shared is not None:
            # Rows behind the experts', counted in rows of their own width.
            down = w.down.behind(w.experts * dim, w.width)
            y += self._panel(hidden.shared, down, w.shared, dim)
        return y

    def settle(self, x: torch.Tensor, partial: torch.Tensor, norm: torch.Tensor | None) -> torch.Tensor:
        """Add the ranks' sum to x, through the norm behind the half layer if there is one."""
        eps, dim = self._shape.architecture.norm_eps, self._shape.dim
        weight = x if norm is None else norm
        rows.settle[(len(x),)](x, partial, weight, eps, DIM=dim, WIDTH=power(dim), NORMED=norm is not None)
        return x

    def score(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of these tokens [n, this rank's rows]."""
        normed = self._norm(x, self._weights.norm).to(self._kind)
        return self._product(normed, self._weights.head, self._shape.dim)

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        mean = (x * x).mean(dim=-1, keepdim=True)
        return x / torch.sqrt(mean + self._shape.architecture.norm_eps) * weight

    def _rotated(self, heads: torch.Tensor, at: At) -> torch.Tensor:
        """Turn the pairs of each head; values beyond the rotary dims pass through."""
        pairs = self._shape.turned
        places = slice(at.position, at.position + at.tokens)
        c, s = self._cache.cos[places, None, :], self._cache.sin[places, None, :]
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
        if self._shape.architecture.rotary.interleaved:
            first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        turned = heads.clone()
        turned[:, :, first] = heads[:, :, first] * c - heads[:, :, second] * s
        turned[:, :, second] = heads[:, :, second] * c + heads[:, :, first] * s
        return turned

    def _product(self, x: torch.Tensor, matrix: Blocks, columns: int) -> torch.Tensor:
        return self._panel(x, matrix, columns, matrix.rows)

    def _panel(  # noqa: PLR0913 - a product, and whose rows it takes
        self, x: torch.Tensor, matrix: Blocks, columns: int, rows: int,
        *, slots: Sorted | None = None, active: int = 1, up: Blocks | None = None, scatter: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        """Product with `rows` rows of the matrix (of each expert's, with `slots`): float32; gated: as x."""
        tile = self._shape.tiles["panel" if slots is None else "group"]
        tokens = len(x) if slots is None else len(slots.order)
        kind = torch.float32 if up is None else self._kind
        out = torch.empty((tokens, rows), dtype=kind, device=self._shape.place)
        parts = -(-tokens // tile["tokens"]) if slots is None else slots.parts
        none = self._nothing
        order = (none, none, none, none) if slots is None else (slots.order, slots.expert, slots.first, slots.end)
        wide = matrix if up is None else up
        panels.panel_products[(parts, -(-rows // tile["rows"]))](
            x, matrix.codes.view(torch.uint8), matrix.scales, wide.codes.view(torch.uint8), wide.scales, out, *order,
            tokens, rows, active, COLUMNS=columns, TOKENS=tile["tokens"], ROWS=tile["rows"], DEPTH=tile["depth"],
            GATED=up is not None, GROUPED=slots is not None, GATHER=slots is not None and not scatter,
            SCATTER=scatter, EXACT=self._shape.exact, num_warps=tile["warps"], num_stages=tile["stages"],
        )  # fmt: skip
        return out


def choose(
    logits: torch.Tensor, correction: torch.Tensor | None, routing: Routing
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return expert numbers and shares, both [tokens, active], as `runtime.routing.choose` does."""
    scores = torch.sigmoid(logits) if routing.sigmoid else torch.softmax(logits, dim=-1)
    ranked = scores if correction is None else scores + correction
    if routing.groups > 1:
        grouped = ranked.view(len(ranked), routing.groups, -1)
        worth = grouped.topk(min(2, grouped.shape[2]), dim=-1).values.sum(dim=-1)
        kept = torch.argsort(worth, dim=-1, descending=True, stable=True)[:, : routing.groups_kept]
        lost = torch.ones_like(worth, dtype=torch.bool).scatter_(1, kept, value=False)
        ranked = grouped.masked_fill(lost[:, :, None], float("-inf")).view_as(ranked)
    chosen = torch.argsort(ranked, dim=-1, descending=True, stable=True)[:, : routing.active]
    shares = scores.gather(1, chosen)
    if routing.normalise:
        shares = shares / (shares.sum(dim=-1, keepdim=True) + 1e-20)
    return chosen, shares * routing.scale


def sort_slots(chosen: torch.Tensor, experts: int, part: int) -> Sorted:
    """Sort the slots of [tokens, active] experts, and cut each expert's into parts of at most so many.

    Nothing is asked of the host: there are always as many parts as there may be at most.
    """
    flat = chosen.reshape(-1)
    order = torch.argsort(flat, stable=True)
    counts = torch.zeros(experts, dtype=flat.dtype, device=flat.device).scatter_add_(0, flat, torch.ones_like(flat))
    ends = counts.cumsum(0)
    parts = (counts + part - 1) // part
    part_ends = parts.cumsum(0)
    numbers = torch.arange(-(-len(flat) // part) + min(experts, len(flat)), device=flat.device)
    expert = torch.searchsorted(part_ends, numbers, right=True).clamp(max=experts - 1)
    first = (ends - counts)[expert] + (numbers - (part_ends - parts)[expert]) * part
    kinds = (tensor.to(torch.int32) for tensor in (order, expert, first, ends))
    return Sorted(*kinds)
