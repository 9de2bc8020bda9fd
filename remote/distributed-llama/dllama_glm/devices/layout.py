"""A rank's weights as a card holds them: Q40 taken apart into codes and scales, still 4.5 bits a weight."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dllama_glm.parallel.shard import Shard
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.matrix import F32, Q40, Matrix
from dllama_glm.runtime.weights import LayerWeights, MixtureWeights, MlpWeights, Vector, Weights

_BLOCK_BYTES, _BLOCK_WORDS, _BLOCK = 18, 4, 32
_SLAB = 1 << 26  # bytes on their way at a time; two slabs take turns


@dataclass(frozen=True)
class Blocks:
    """Q40 matrices behind each other, row by row: `codes` int32, four to a block; `scales` float16, one to a block."""

    codes: torch.Tensor
    scales: torch.Tensor
    rows: int

    def behind(self, rows: int, columns: int) -> "Blocks":
        """Return what stands behind so many rows of so many columns."""
        first = rows * columns // _BLOCK
        return Blocks(self.codes[first * _BLOCK_WORDS :], self.scales[first:], self.rows - rows)


@dataclass(frozen=True)
class Layer:
    """One layer; its networks are stacks: the routed experts', and the shared or dense one behind them.

    `experts` and `active` are 0 in a dense layer, and where a rank keeps nothing of the experts; `width` and `shared`
    are the widths of an expert's and of the shared network's part here.
    """

    attention_norm: torch.Tensor
    qkv: Blocks
    bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    o: Blocks
    attention_post: torch.Tensor | None
    mlp_norm: torch.Tensor
    router: torch.Tensor | None
    correction: torch.Tensor | None
    gate: Blocks
    up: Blocks
    down: Blocks
    mlp_post: torch.Tensor | None
    experts: int
    active: int
    width: int
    shared: int


@dataclass(frozen=True)
class CardWeights:
    """All that a card computes with; `embedding` [vocab, dim] stays in the host's memory, where a card reads rows."""

    embedding: torch.Tensor
    layers: tuple[Layer, ...]
    norm: torch.Tensor
    head: Blocks


def check_storage(weights: Weights) -> None:
    """Refuse a file that is stored otherwise than the kernels read it."""
    if any(matrix.kind not in {Q40, F32} for matrix in weights.matrices()) or weights.head.kind != Q40:
        raise DllamaError(
            "On a card the weights must be Q40 (convert-hf.py FOLDER q40 NAME); --device cpu takes others."
        )


def device_bytes(weights: Weights) -> int:
    """How many bytes of a card the weights take (without the embedding, which stays outside)."""
    return sum(matrix.nbytes for matrix in weights.matrices())


def cache_bytes(architecture: Architecture, shard: Shard, *, exact: bool) -> int:
    """How many bytes of a card one position's keys and values take."""
    return 2 * architecture.layers * len(shard.kv_heads) * architecture.head_dim * (4 if exact else 2)


def lay_out(weights: Weights, architecture: Architecture, place: torch.device) -> CardWeights:
    """Copy a rank's weights to the card."""
    way = Way(place)
    return CardWeights(
        embedding=way.embedding(weights.embedding),
        layers=tuple(_layer(way, architecture, layer) for layer in weights.layers),
        norm=way.vector(weights.norm),
        head=way.blocks([weights.head]),
    )


def _layer(way: "Way", architecture: Architecture, layer: LayerWeights) -> Layer:
    a, mlp = layer.attention, layer.mlp
    biases = [bias for bias in (a.q_bias, a.k_bias, a.v_bias) if bias is not None]
    mixture = mlp if isinstance(mlp, MixtureWeights) else None
    routed = list(mixture.routed.experts) if mixture else []
    own = mixture.shared if mixture else mlp
    assert own is None or isinstance(own, MlpWeights)
    networks = [*routed, *([] if own is None else [own])]
    width = routed[0].gate.rows if routed else 0
    kept = len(routed) if width else 0
    return Layer(
        attention_norm=way.vector(layer.attention_norm),
        qkv=way.blocks([a.q, a.k, a.v]),
        bias=way.vector(np.concatenate(biases)) if biases else None,
        q_norm=way.optional(a.q_norm),
        k_norm=way.optional(a.k_norm),
        o=way.blocks([a.o]),
        attention_post=way.optional(layer.attention_post_norm),
        mlp_norm=way.vector(layer.mlp_norm),
        router=way.vector(mixture.router.to_float().reshape(-1)) if mixture else None,
        correction=way.optional(mixture.correction) if mixture else None,
        gate=way.blocks([network.gate for network in networks]),
        up=way.blocks([network.up for network in networks]),
        down=way.blocks([network.down for network in networks]),
        mlp_post=way.optional(layer.mlp_post_norm),
        experts=kept,
        active=architecture.routing.active if kept and architecture.routing else 0,
        width=width,
        shared=own.gate.rows if own is not None else 0,
    )


class Way:
    """From the mapped file through page-locked slabs to the card, where blocks are taken apart."""

    def __init__(self, place: torch.device) -> None:
        self._place = place
        self._locked = place.type == "cuda"
        self._slabs = [torch.empty(_SLAB, dtype=torch.uint8, pin_memory=self._locked) for _ in range(2)]
        self._gone: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

    def vector(self, values: Vector) -> torch.Tensor:
        """Copy float32 values."""
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self._place)

    def optional(self, values: Vector | None) -> torch.Tensor | None:
        """Copy float32 values, if there are any."""
        return None if values is None else self.vector(values)

    def embedding(self, table: Matrix) -> torch.Tensor:
        """Copy the table into memory of the host that the card can read."""
        values = torch.empty((table.rows, table.columns), dtype=torch.float32, pin_memory=self._locked)
        part = max(1, _SLAB // (4 * table.columns))
        for first in range(0, table.rows, part):
            rows = range(first, min(first + part, table.rows))
            values.numpy()[rows.start : rows.stop] = table.take_rows(rows).to_float()
        return values

    def blocks(self, matrices: list[Matrix]) -> Blocks:
        """Copy Q40 matrices behind each other."""
        count = sum(matrix.nbytes for matrix in matrices) // _BLOCK_BYTES
        codes = torch.empty(count * _BLOCK_WORDS, dtype=torch.int32, device=self._place)
        scales = torch.empty(count, dtype=torch.float16, device=self._place)
        first = 0
        for matrix in matrices:
            for raw in self._pieces(matrix):
                last = first + len(raw)
                codes.view(torch.uint8).view(-1, 16)[first:last] = raw[:, 2:]
                scales.view(torch.uint8).view(-1, 2)[first:last] = raw[:, :2]
                first = last
        return Blocks(codes, scales, sum(matrix.rows for matrix in matrices))

    def _pieces(self, matrix: Matrix) -> Iterator[torch.Tensor]:
        """Yield the matrix's blocks on the card, uint8 [blocks, 18], as many rows at a time as a slab holds."""
        if not matrix.nbytes:
            return
        part = max(1, _SLAB // matrix.row_bytes)
        for first in range(0, matrix.rows, part):
            rows = matrix.take_rows(range(first, min(first + part, matrix.rows)))
            shape, strides = (rows.rows, rows.row_bytes), (rows.stride, 1)
            source = np.lib.stride_tricks.as_strided(rows.raw[rows.offset :], shape, strides, writeable=False)
            slab, gone = self._slabs[self._turn], self._gone[self._turn]
            if gone is not None:
                gone.synchronize()  # what was in this slab has reached the card
            slab.numpy()[: rows.nbytes].reshape(shape)[:] = source
            yield slab[: rows.nbytes].to(self._place, non_blocking=True).view(-1, _BLOCK_BYTES)
            if self._locked:
                self._gone[self._turn] = event = torch.cuda.Event()
                event.record()
            self._turn = 1 - self._turn
