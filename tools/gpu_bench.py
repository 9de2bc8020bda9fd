"""Measures the runtime's kernels on a card: GLM-4.5-Air's shapes, random weights of as many layers as fit."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
import triton
from dllama_glm.devices.cache import Cache
from dllama_glm.devices.card import ROOM, Card
from dllama_glm.devices.card_steps import CardGraph
from dllama_glm.devices.layout import Blocks, CardWeights, Layer, Way
from dllama_glm.devices.one_token import OneToken, run_layer
from dllama_glm.devices.prompt import Prompt
from dllama_glm.devices.shape import shape_of
from dllama_glm.devices.steps import Graph, Repeated
from dllama_glm.devices.tiles import PATH, Tile, tiles_for
from dllama_glm.parallel.shard import shard
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import At
from dllama_glm.runtime.matrix import Q40, Matrix
from gpu_launches import AIR

PROMPT, BEHIND, POSITIONS = 512, 4096, 8192
_LOADED = 1 << 29  # bytes of the matrix whose way to the card is timed
_COLUMNS, _ROW = 4096, 4096 * 18 // 32  # of its rows: values, bytes
PEAKS = {"H100": 3.35e12, "H200": 4.8e12, "A100-SXM": 2.039e12, "A100": 1.935e12}  # by the makers; bytes a second


class Bench:
    """The runtime's own classes over random weights on a card; `architecture` with fewer layers where not all fit."""

    def __init__(self, card: Card, architecture: Architecture = AIR, positions: int = POSITIONS) -> None:
        self.card, self._place = card, torch.device(card.place)
        self.tiles = tiles_for(card.capability)
        fit = int((card.free - _head_bytes(architecture) - 2 * ROOM) // _layer_bytes(architecture, all_experts=True))
        self.architecture = replace(architecture, layers=max(1, min(architecture.layers, fit)), first_dense_layers=0)
        self._behind = positions // 2
        self._part = shard(self.architecture, 0, 1)
        shape = self._shape = shape_of(self.architecture, self._part, positions, self._place, self.tiles, exact=False)
        self._cache = Cache(shape, self._part)
        self._weights = self._random_weights()

    def tune(self, name: str, choices: dict[str, list[int]]) -> Tile:
        """Put the fastest of a kernel's tile sizes into the table; return it."""
        best, fastest = self.tiles[name], float("inf")
        for values in product(*choices.values()):
            self.tiles[name] = dict(zip(choices, values, strict=True))
            try:
                took = self._timed(self._kernel(name), 3)
            except RuntimeError:  # it takes more registers or shared memory than there are
                continue
            if took < fastest:
                best, fastest = self.tiles[name], took
        self.tiles[name] = best
        return best

    def keep_tiles(self) -> None:
        """Write the table into the kernels' source."""
        tables = json.loads(PATH.read_text(encoding="ascii")) | {str(self.card.capability): self.tiles}
        parts = []
        for number, table in tables.items():
            lines = ",\n".join(f'  "{name}": {json.dumps(tile)}' for name, tile in table.items())
            parts.append(f' "{number}": {{\n{lines}\n }}')
        PATH.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="ascii")

    def page(self, tested: str, driver: str) -> str:
        """Measure, and return the report."""
        a, token = self.architecture, self._token()
        size = a.layers * _layer_bytes(a, all_experts=False) + _head_bytes(a)
        size += 4.0 * a.kv_heads * a.head_dim * self._behind * a.layers
        peak = next((peak for name, peak in PEAKS.items() if name in self.card.name), None)
        limit = f"{size / token / peak:.0%} of {peak / 1e9:,.0f} GB/s" if peak else "its peak is not known here"
        prompt, products = self._timed(self._prompt, 2), self._timed(self._products(), 2)
        versions = f"driver {driver}, torch {torch.__version__}, CUDA {torch.version.cuda}, triton {triton.__version__}"
        lines = [
            "# Measured on a card\n",
            f"{self.card.name}; {versions}.\n",
            f"Tests of the kernels on the card: {tested}.\n",
            f"GLM-4.5-Air's shapes, random weights, {a.layers} of {AIR.layers} layers, all with experts.\n",
            "| what | measured |",
            "|---|---|",
            f"| a token behind {self._behind} others, one graph | {token * 1e3:.3f} ms, {1 / token:.1f} tokens/s |",
            f"| bytes that it reads | {size / 1e9:.3f} GB, {size / token / 1e9:,.0f} GB/s, {limit} |",
            f"| a plain read | {self._read():,.0f} GB/s |",
            f"| a prompt of {PROMPT} tokens, without the head | {prompt:.3f} s, {PROMPT / prompt:,.0f} tokens/s |",
            f"| torch's products of its shapes, halves | {products:.3f} s: the prompt at {products / prompt:.2f} |",
            f"| weights from memory to the card, re-laid | {self._load() / 1e9:.2f} GB/s |",
            "| the same from a mapped file that is not in memory; a plain read of it | {:.2f}; {:.2f} GB/s |".format(
                *self._load_file()
            ),
            *(
                f"| {name}, a layer | {self._timed(self._kernel(name), 8) / a.layers * 1e6:.1f} us |"
                for name in _KERNELS
            ),
        ]
        return "\n".join(lines) + "\n"

    def _one(self) -> OneToken:
        one = OneToken(self._shape, self._weights, self._cache, alone=True)
        one.position.fill_(self._behind)
        return one

    def _kernel(self, name: str) -> Callable[[], None]:
        """One kernel for every layer in turn, so that no layer's weights are still in a cache; the head once."""
        one = self._one()
        if name == "head":
            return one.score
        step = getattr(one, _KERNELS[name])

        def all_layers() -> None:
            for layer in range(self.architecture.layers):
                step(layer)

        return all_layers

    def _token(self) -> float:
        one = self._one()
        graph: Graph = CardGraph() if self._place.type == "cuda" else Repeated()

        def token() -> None:
            one.position.fill_(self._behind)
            one.embed()
            for layer in range(self.architecture.layers):
                run_layer(one, layer)
            one.score()
            one.choose(alone=True)

        token()
        graph.capture(token)
        return self._timed(graph.replay, 32)

    def _prompt(self) -> None:
        position = torch.zeros(1, dtype=torch.int32, device=self._place)
        prompt = Prompt(self._shape, self._weights, self._cache, position)
        x, at = torch.randn((PROMPT, self.architecture.dim), device=self._place), At(0, PROMPT)
        for layer in range(self.architecture.layers):
            mixed = prompt.attention(layer, prompt.attend_inputs(layer, x, at), at)
            x = prompt.settle(x, prompt.attend_output(layer, mixed), None)
            routed = prompt.route(layer, x)
            x = prompt.settle(x, prompt.contract(layer, prompt.expand(layer, routed), routed), None)

    def _products(self) -> Callable[[], None]:
        """Torch's products of halves as large as a prompt's, all layers'."""
        a = self.architecture
        assert a.routing is not None
        rows = (a.heads + 2 * a.kv_heads) * a.head_dim
        slots, width = PROMPT * (a.routing.active + 1), a.expert_width
        shapes = [(PROMPT, a.dim, rows), (PROMPT, a.heads * a.head_dim, a.dim)]
        shapes += [(slots, a.dim, 2 * width), (slots, width, a.dim)]
        kind = torch.float16 if self._place.type == "cuda" else torch.float32
        pairs = [
            (torch.randn((m, k), device=self._place).to(kind), torch.randn((k, n), device=self._place).to(kind))
            for m, k, n in shapes
        ]

        def work() -> None:
            for _ in range(a.layers):
                for left, right in pairs:
                    left @ right

        return work

    def _read(self) -> float:
        words = torch.ones(1 << 28 if self._place.type == "cuda" else 1 << 16, device=self._place)
        return words.numel() * 4 / self._timed(words.sum, 4) / 1e9

    def _load(self) -> float:
        raw = np.ones(self._loaded_rows() * _ROW, np.uint8)
        return raw.nbytes / self._timed(lambda: self._lay(raw), 2)

    def _load_file(self) -> tuple[float, float]:
        """A file's way to the card, and a plain read of it: 10^9 bytes a second."""
        with tempfile.NamedTemporaryFile(dir=".") as file:
            file.write(bytes(self._loaded_rows() * _ROW))
            file.flush()
            os.fsync(file.fileno())
            size, found = file.tell(), []
            for read in (lambda: self._lay(np.memmap(file.name, np.uint8, "r")), lambda: Path(file.name).read_bytes()):
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                began = time.perf_counter()
                read()
                self._finish()
                found.append(size / (time.perf_counter() - began) / 1e9)
        return found[0], found[1]

    def _loaded_rows(self) -> int:
        return max(1, min(_LOADED, self.card.free >> 4) // _ROW)

    def _lay(self, raw: np.ndarray) -> None:
        Way(self._place).blocks([Matrix(raw, Q40, len(raw) // _ROW, _COLUMNS, 0, _ROW)])

    def _timed(self, work: Callable[[], object], times: int) -> float:
        """Seconds of one time, after one that warms up."""
        work()
        self._finish()
        began = time.perf_counter()
        for _ in range(times):
            work()
        self._finish()
        return (time.perf_counter() - began) / times

    def _finish(self) -> None:
        if self._place.type == "cuda":
            torch.cuda.synchronize()

    def _random_weights(self) -> CardWeights:
        a = self.architecture
        table = torch.randn((a.vocab_size, a.dim), pin_memory=self._place.type == "cuda")
        layers = tuple(self._layer() for _ in range(a.layers))
        return CardWeights(table, layers, torch.ones(a.dim, device=self._place), self._blocks(a.vocab_size, a.dim))

    def _layer(self) -> Layer:
        a = self.architecture
        assert a.routing is not None
        count, q = a.routing.experts, a.heads * a.head_dim
        rows, norm = (count + 1) * a.expert_width, torch.ones(a.dim, device=self._place)
        heads = q + 2 * a.kv_heads * a.head_dim
        return Layer(
            attention_norm=norm, qkv=self._blocks(heads, a.dim), bias=torch.zeros(heads, device=self._place),
            q_norm=None, k_norm=None, o=self._blocks(a.dim, q), attention_post=None, mlp_norm=norm,
            router=torch.randn(count * a.dim, device=self._place) * 0.02,
            correction=torch.zeros(count, device=self._place), gate=self._blocks(rows, a.dim),
            up=self._blocks(rows, a.dim), down=self._blocks((count + 1) * a.dim, a.expert_width), mlp_post=None,
            experts=count, active=a.routing.active, width=a.expert_width, shared=a.expert_width,
        )  # fmt: skip

    def _blocks(self, rows: int, columns: int) -> Blocks:
        count = rows * columns // 32
        codes = torch.randint(-(1 << 31), 1 << 31, (4 * count,), dtype=torch.int32, device=self._place)
        scales = torch.full((count,), 0.001, dtype=torch.float16, device=self._place)
        return Blocks(codes, scales, rows)


_KERNELS = {
    "inputs": "attend_inputs", "attention": "attention", "output": "attend_output", "route": "route",
    "expand": "expand", "contract": "contract",
}  # fmt: skip


def _layer_bytes(a: Architecture, *, all_experts: bool) -> float:
    """Bytes of a sparse layer's weights: of all, or of those that a token reads."""
    assert a.routing is not None
    slots = (a.routing.experts if all_experts else a.routing.active) + 1
    attention = a.dim * a.head_dim * (2 * a.heads + 2 * a.kv_heads)
    return (attention + slots * 3 * a.dim * a.expert_width) * 18 / 32 + 4 * a.routing.experts * a.dim


def _head_bytes(a: Architecture) -> float:
    return a.vocab_size * a.dim * 18 / 32
