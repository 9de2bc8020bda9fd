"""The launches of one GLM-4.5-Air token, as the runtime makes them, over tensors without memory."""

from dataclasses import dataclass
from typing import Any

import torch
from dllama_glm.devices.cache import Cache
from dllama_glm.devices.layout import Blocks, CardWeights, Layer
from dllama_glm.devices.one_token import OneToken
from dllama_glm.devices.shape import Shape, shape_of
from dllama_glm.devices.tiles import Tile
from dllama_glm.parallel.shard import shard
from dllama_glm.runtime.architecture import Architecture, Rotary, Routing
from triton.runtime.jit import JITFunction

CONTEXT = 4096  # tokens in front of the one that is computed
AIR = Architecture(
    name="glm4_moe", dim=4096, layers=46, heads=96, kv_heads=8, head_dim=128, dense_width=10944, expert_width=1408,
    shared_experts=1, first_dense_layers=1, vocab_size=151552, max_seq_len=131072, norm_eps=1e-5,
    rotary=Rotary(1e6, 64, interleaved=False),
    routing=Routing(128, 8, sigmoid=True, normalise=True, corrected=True),
    attention_bias=True, qk_norm=False, post_norms=False, window=131072,
)  # fmt: skip
_SLOTS = 9  # eight experts, and the shared one
_BLOCK = 18 / 32  # bytes of a weight


@dataclass(frozen=True)
class Launch:
    """One launch: its kernel and arguments by name, its programs, how it is compiled.

    `weights` that it reads, `bytes` with all else; `turns` of its loops in order, each with the dp4a of one turn.
    """

    title: str
    kernel: Any
    arguments: dict[str, Any]
    grid: tuple[int, ...]
    options: dict[str, int]
    weights: int
    bytes: float
    turns: tuple[tuple[int, int], ...]

    @property
    def programs(self) -> int:
        """How many programs run."""
        count = 1
        for size in self.grid:
            count *= size
        return count


def launches(tiles: dict[str, Tile]) -> list[Launch]:
    """All launches of a token: those of a sparse layer, and those behind the layers."""
    of = shape_of(AIR, shard(AIR, 0, 1), 2 * CONTEXT, torch.device("meta"), tiles, exact=False)
    one = OneToken(of, _weights(), Cache(of, shard(AIR, 0, 1)), alone=True)
    layer = (one.attend_inputs, one.attention, one.attend_output, one.route, one.expand, one.contract)
    steps: list[Any] = [lambda step=step: step(0) for step in layer]
    steps += [one.embed, one.score, lambda: one.choose(alone=True)]
    found = []
    for step in steps:
        found += _recorded(step)
    return [_described(of, title, raw) for title, raw in zip(_TITLES, found, strict=True)]


_TITLES = (
    "1 norm, qkv, rotation", "2 attention", "3 output", "4 norm, router", "5 gate, up", "6 down", "embedding", "norm",
    "head", "best of parts", "best",
)  # fmt: skip


def _recorded(step: Any) -> list[tuple[Any, dict[str, Any], tuple[int, ...], dict[str, int]]]:
    found: list[tuple[Any, dict[str, Any], tuple[int, ...], dict[str, int]]] = []

    def record(self: Any, *values: Any, grid: tuple[int, ...], **named: Any) -> None:
        named.pop("warmup")
        options: dict[str, int] = {name: named.pop(name) for name in ("num_warps", "num_stages") if name in named}
        found.append((self, dict(zip(self.arg_names, values, strict=False)) | named, grid, options))

    plain = JITFunction.run
    JITFunction.run = record
    try:
        step()
    finally:
        JITFunction.run = plain
    return found


def _described(of: Shape, title: str, raw: Any) -> Launch:
    kernel, arguments, grid, options = raw
    a = AIR
    columns = {"1": a.dim, "3": a.heads * a.head_dim, "5": a.dim, "h": a.dim}
    rows = {
        "1": (a.heads + 2 * a.kv_heads) * a.head_dim, "3": a.dim, "5": 2 * _SLOTS * a.expert_width,
        "6": a.dim * _SLOTS, "h": a.vocab_size,
    }  # fmt: skip
    kind = "h" if title == "head" else title[0]
    weights = rows.get(kind, 0) * columns.get(kind, a.expert_width)
    assert a.routing is not None
    beside = {
        "2": 4.0 * a.kv_heads * a.head_dim * CONTEXT,
        "4": 4.0 * a.routing.experts * a.dim,
        "h": 4.0 * a.vocab_size,
    }
    if title == "best of parts":
        beside["b"] = 4.0 * a.vocab_size
    turns = _turns(of, kind, arguments, options)
    size = weights * _BLOCK + beside.get(kind, 0.0)
    return Launch(title, kernel, arguments, grid, options, weights, size, turns)


def _turns(of: Shape, kind: str, arguments: dict[str, Any], options: dict[str, int]) -> tuple[tuple[int, int], ...]:
    if kind == "2":
        splits, at_once = of.tiles["attention"]["splits"], of.tiles["attention"]["positions"]
        return (-(-CONTEXT // splits // at_once), 0), (1, 0)  # the second one runs in one program of each head
    if "BLOCKS" not in arguments or kind in "4n":
        return ()
    lanes = 32 * options.get("num_warps", 4)
    height = arguments.get("ROWS", 2 * arguments.get("PAIRS", 0)) * (2 if kind == "5" else 1)
    products = 8 * arguments["BLOCKS"] * height // lanes
    blocks = [8 * AIR.expert_width // 32, AIR.expert_width // 32] if kind == "6" else [AIR.dim // 32]
    if kind == "3":
        blocks = [AIR.heads * AIR.head_dim // 32]
    return tuple((-(-count // arguments["BLOCKS"]), products) for count in blocks)


def _weights() -> CardWeights:
    return CardWeights(_meta(AIR.dim), (_layer(),), _meta(AIR.dim), _blocks(AIR.vocab_size, AIR.dim))


def _layer() -> Layer:
    a, routing = AIR, AIR.routing
    assert routing is not None
    count, q = routing.experts, a.heads * a.head_dim
    heads = q + 2 * a.kv_heads * a.head_dim
    rows, norm = (count + 1) * a.expert_width, _meta(a.dim)
    return Layer(
        attention_norm=norm, qkv=_blocks(heads, a.dim), bias=_meta(heads), q_norm=None,
        k_norm=None, o=_blocks(a.dim, q), attention_post=None, mlp_norm=norm, router=_meta(count * a.dim),
        correction=_meta(count), gate=_blocks(rows, a.dim), up=_blocks(rows, a.dim),
        down=_blocks((count + 1) * a.dim, a.expert_width), mlp_post=None, experts=count, active=routing.active,
        width=a.expert_width, shared=a.expert_width,
    )  # fmt: skip


def _blocks(rows: int, columns: int) -> Blocks:
    count = rows * columns // 32
    return Blocks(_meta(4 * count, torch.int32), _meta(count, torch.float16), rows)


def _meta(size: int, kind: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(size, dtype=kind, device="meta")
