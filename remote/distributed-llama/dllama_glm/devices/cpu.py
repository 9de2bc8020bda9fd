"""The CPU: half-layer operations as compiled kernels, over weights where they lie."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from dllama_glm.devices.rooms import Room, Sizes, up_to
from dllama_glm.kernels import attention, layers, products
from dllama_glm.kernels.build import native
from dllama_glm.kernels.level import LEVEL
from dllama_glm.kernels.rows import BYTES
from dllama_glm.kernels.structures import EXPERT, LAYER, LAYER_BYTES, MODEL
from dllama_glm.parallel.shard import Shard
from dllama_glm.runtime import rotary
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import At, Group
from dllama_glm.runtime.machine import note
from dllama_glm.runtime.matrix import F32, Q40, Q80
from dllama_glm.runtime.memory import take
from dllama_glm.runtime.weights import AttentionWeights, LayerWeights, MixtureWeights, MlpWeights, Weights

Floats: TypeAlias = npt.NDArray[np.float32]

_TILE = 16  # positions of a tile of keys


class CpuDevice:
    """Implements `runtime.device.Device` with so many threads.

    `exact`: activations, keys and values stay float32. Otherwise activations meet Q40 and Q80 as signed bytes with a
    scale for 32 of them, and the cache holds halves.
    """

    def __init__(  # noqa: PLR0913 - what a rank is, and how it shall compute
        self, weights: Weights, architecture: Architecture, shard: Shard, group: Group, capacity: int,
        *, threads: int = 1, exact: bool = False, resident: bool = False,
    ) -> None:  # fmt: skip
        self.threads = max(1, min(threads, numba.config.NUMBA_NUM_THREADS))
        if self.threads > 1 and threading() == "workqueue":
            note("numba's own queue runs the threads, which costs time in every layer: install libgomp1, or tbb by pip")
        self._weights, self._architecture, self._group = weights, architecture, group
        self._alone = int(group.ranks == 1)
        self._frequency = rotary.frequencies(architecture.rotary)
        self._kept: list[npt.NDArray[Any]] = []  # what the structures point to
        self._sizes = _sizes(architecture, shard)
        self._model = self._facts(shard, up_to(capacity, _TILE), exact=exact)
        self._layers = np.zeros(architecture.layers, LAYER)
        for number, layer in enumerate(weights.layers):
            self._fill(number, layer)
        self._model_at = self._model.ctypes.data
        first = self._layers.ctypes.data
        self._layer_at = [first + LAYER_BYTES * number for number in range(architecture.layers)]
        self._single = self._room = Room(self._sizes, 1)
        self.described = {
            "device": "cpu",
            "threads": self.threads,
            "simd": LEVEL,
            "threading": threading(),
            "arithmetic": "f32" if exact or weights.head.kind not in {Q40, Q80} else "int8",
            "weights": "resident" if resident else "mapped",
        }

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from the next pass on, at most those that it was made with."""
        self.threads = min(threads, self.described["threads"])
        self._model["threads"] = self.threads

    def steps(self, layers: Callable[[list[int], int], Any]) -> None:
        """One token is computed as many are."""

    def embed(self, ids: list[int]) -> Room:
        """Begin a pass: return its room, whose x holds the tokens' rows."""
        numba.set_num_threads(self.threads)  # numba keeps it for each thread of Python
        if len(ids) == 1:
            room = self._single
        else:
            if self._room.tokens != len(ids):
                self._room = Room(self._sizes, len(ids))
            room = self._room
        table, numbers = self._weights.embedding, np.array(ids, np.int64)
        dim, out = self._architecture.dim, room["x"].ctypes.data
        _embed(table.address, table.stride, table.kind, numbers.ctypes.data, len(ids), dim, out)
        return room

    def attend_inputs(self, layer: int, x: Room, at: At) -> Room:
        """Return the room with the queries."""
        if layer == 0:
            x["cos"][:], x["sin"][:] = rotary.angles(self._frequency, at.position, at.tokens)
        _attend_inputs(self._model_at, self._layer_at[layer], x.address, at.position)
        return x

    def attention(self, layer: int, q: Room, at: At) -> Room:
        """Return the room with the heads' results."""
        _attend(self._model_at, q.address, layer, at.position)
        return q

    def attend_output(self, layer: int, mixed: Room, x: Room) -> Room:
        """Return the room with the residual stream."""
        _attend_output(self._model_at, self._layer_at[layer], mixed.address, self._alone)
        return self._summed(layer, x, mlp=0)

    def route(self, layer: int, x: Room) -> Room:
        """Return the room with the experts of each token."""
        _route(self._model_at, self._layer_at[layer], x.address)
        return x

    def expand(self, layer: int, routed: Room) -> Room:
        """Return the room with every slot's hidden row."""
        _expand(self._model_at, self._layer_at[layer], routed.address)
        return routed

    def contract(self, layer: int, hidden: Room, routed: Room, x: Room) -> Room:  # noqa: ARG002 - all the same room
        """Return the room with the residual stream."""
        _contract(self._model_at, self._layer_at[layer], hidden.address, self._alone)
        return self._summed(layer, x, mlp=1)

    def head(self, x: Room, *, every: bool) -> Floats:
        """Return this rank's logits."""
        matrix, first = self._weights.head, 0 if every else x.tokens - 1
        logits = np.empty((x.tokens - first, matrix.rows), np.float32)
        norm, out = self._weights.norm.ctypes.data, logits.ctypes.data
        _head(self._model_at, x.address, norm, matrix.address, matrix.stride, matrix.rows, first, out)
        return logits

    def _summed(self, layer: int, x: Room, *, mlp: int) -> Room:
        if not self._alone:
            partial = x["partial"]
            partial[:] = self._group.sum(partial)
            _settle(self._model_at, self._layer_at[layer], x.address, mlp)
        return x

    def _facts(self, shard: Shard, capacity: int, *, exact: bool) -> npt.NDArray[Any]:
        architecture, sizes = self._architecture, self._sizes
        m = np.zeros(1, MODEL)
        kind = self._weights.head.kind
        m["kind"] = kind + (BYTES if kind in {Q40, Q80} and not exact else 0)
        m["wide"], m["capacity"], m["window"] = exact, capacity, architecture.window
        m["dim"], m["heads"], m["kv_heads"] = sizes.dim, sizes.heads, sizes.kv_heads
        m["head_dim"], m["padded"], m["pairs"] = sizes.head_dim, sizes.padded, sizes.pairs
        m["interleaved"], m["eps"] = architecture.rotary.interleaved, architecture.norm_eps
        m["scale"] = 1 / np.sqrt(np.float32(sizes.head_dim))
        cache = architecture.layers * sizes.kv_heads * capacity * sizes.padded * (4 if exact else 2)
        m["keys"], m["values"] = (self._keep(take(cache, huge=False)) for _ in range(2))
        heads = [shard.kv_of_head(architecture).index(number) for number in range(sizes.kv_heads)]
        m["first_heads"] = self._keep(np.array([*heads, sizes.heads], np.int64))
        if routing := architecture.routing:
            m["experts"], m["active"], m["shared"] = routing.experts, routing.active, bool(architecture.shared_experts)
            m["sigmoid"], m["normalise"], m["routed_scale"] = routing.sigmoid, routing.normalise, routing.scale
            m["groups"], m["groups_kept"] = routing.groups, routing.groups_kept
        widest = up_to(max(sizes.dim, sizes.heads * sizes.head_dim, sizes.slot_width), 64)
        size = up_to(max(products.scratch_bytes(widest), attention.scratch_bytes(capacity), 8 * sizes.padded), 4096)
        m["threads"], m["scratch_size"] = self.threads, size
        m["scratch"] = self._keep(take(size * self.threads, huge=False))
        return m

    def _fill(self, number: int, layer: LayerWeights) -> None:
        w = self._layers[number]
        w["number"] = number
        w["attention_norm"], w["mlp_norm"] = self._keep(layer.attention_norm), self._keep(layer.mlp_norm)
        w["attention_post"], w["mlp_post"] = self._keep(layer.attention_post_norm), self._keep(layer.mlp_post_norm)
        a = layer.attention
        w["q"], w["k"], w["v"], w["o"] = a.q.address, a.k.address, a.v.address, a.o.address
        w["stride"], w["o_stride"], w["bias"] = a.q.stride, a.o.stride, self._keep(_bias(a))
        w["q_norm"], w["k_norm"] = self._keep(a.q_norm), self._keep(a.k_norm)
        networks = [layer.mlp] if isinstance(layer.mlp, MlpWeights) else _networks(layer.mlp)
        w["experts"] = self._keep(_table(networks))
        if isinstance(layer.mlp, MixtureWeights):
            assert layer.mlp.router.kind == F32, "the format stores routers in float32"
            w["router"], w["correction"] = layer.mlp.router.address, self._keep(layer.mlp.correction)

    def _keep(self, array: npt.NDArray[Any] | None) -> int:
        """The array's address, which stays good; 0 without one."""
        if array is None:
            return 0
        self._kept.append(array)
        return int(array.ctypes.data)


def threading() -> str:
    """What runs the threads: omp, tbb or workqueue."""
    return str(numba.threading_layer())


def _sizes(architecture: Architecture, shard: Shard) -> Sizes:
    routing, head_dim = architecture.routing, architecture.head_dim
    widths = [len(shard.dense), len(shard.expert), len(shard.shared)]
    return Sizes(
        dim=architecture.dim,
        heads=len(shard.heads),
        kv_heads=len(shard.kv_heads),
        head_dim=head_dim,
        padded=up_to(head_dim, _TILE),
        pairs=architecture.rotary.dims // 2,
        experts=routing.experts if routing else 0,
        slots=routing.active + bool(architecture.shared_experts) if routing else 1,
        slot_width=max(widths),
    )


def _bias(w: AttentionWeights) -> Floats | None:
    parts = [part for part in (w.q_bias, w.k_bias, w.v_bias) if part is not None]
    return np.concatenate(parts) if parts else None


def _networks(mixture: MixtureWeights) -> list[MlpWeights]:
    return [*mixture.routed.experts, *([] if mixture.shared is None else [mixture.shared])]


def _table(networks: list[MlpWeights]) -> npt.NDArray[Any]:
    return np.array(
        [(n.gate.address, n.up.address, n.down.address, n.gate.stride, n.down.stride, n.gate.rows) for n in networks],
        EXPERT,
    )


_embed, _attend_inputs, _attend = native(layers.embed), native(layers.attend_inputs), native(layers.attend)
_attend_output, _route, _expand = native(layers.attend_output), native(layers.route), native(layers.expand_slots)
_contract, _settle, _head = native(layers.contract), native(layers.settle), native(layers.head)
