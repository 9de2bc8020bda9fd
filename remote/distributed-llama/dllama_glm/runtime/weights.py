"""A model's weights as views into its mapped file, cut to what one rank keeps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.parallel.shard import Shard
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.matrix import Matrix

Vector: TypeAlias = npt.NDArray[np.float32]


class TensorSource(Protocol):
    """Where tensors come from, by their Hugging Face names."""

    def matrix(self, name: str) -> Matrix:
        """Return a matrix as a view, not a copy."""

    def vector(self, name: str) -> Vector:
        """Return a vector as float32."""


@dataclass(frozen=True)
class MlpWeights:
    """One gated network: down(silu(gate x) * up x)."""

    gate: Matrix
    down: Matrix
    up: Matrix


@dataclass(frozen=True)
class ExpertWeights:
    """The routed experts of one layer, by number."""

    experts: tuple[MlpWeights, ...]


@dataclass(frozen=True)
class MixtureWeights:
    """A mixture of experts; `shared` sees every token, `correction` shifts the router's choice only."""

    router: Matrix
    correction: Vector | None
    routed: ExpertWeights
    shared: MlpWeights | None


@dataclass(frozen=True)
class AttentionWeights:
    """The four projections of one layer; None where the model has no such bias or norm."""

    q: Matrix
    k: Matrix
    v: Matrix
    o: Matrix
    q_bias: Vector | None
    k_bias: Vector | None
    v_bias: Vector | None
    q_norm: Vector | None
    k_norm: Vector | None


@dataclass(frozen=True)
class LayerWeights:
    """One layer: the norm in front of each half, the half, and (dense GLM-4) the norm behind it."""

    attention_norm: Vector
    attention: AttentionWeights
    attention_post_norm: Vector | None
    mlp_norm: Vector
    mlp: MlpWeights | MixtureWeights
    mlp_post_norm: Vector | None


@dataclass(frozen=True)
class Weights:
    """All that one rank computes with; `head` holds this rank's rows of the vocabulary."""

    embedding: Matrix
    layers: tuple[LayerWeights, ...]
    norm: Vector
    head: Matrix

    def matrices(self) -> Iterator[Matrix]:
        """Yield every matrix but the embedding."""
        yield from _matrices((self.layers, self.head))

    def moved(self, move: Callable[[Matrix], Matrix]) -> "Weights":
        """Return the weights with every matrix but the embedding replaced by what `move` makes of it."""
        return replace(self, layers=_moved(self.layers, move), head=move(self.head))


def _matrices(value: Any) -> Iterator[Matrix]:
    if isinstance(value, Matrix):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _matrices(item)
    elif is_dataclass(value):
        for item in fields(value):
            yield from _matrices(getattr(value, item.name))


def _moved(value: Any, move: Callable[[Matrix], Matrix]) -> Any:
    if isinstance(value, Matrix):
        return move(value)
    if isinstance(value, tuple):
        return tuple(_moved(item, move) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{item.name: _moved(getattr(value, item.name), move) for item in fields(value)})
    return value


def load(source: TensorSource, architecture: Architecture, shard: Shard) -> Weights:
    """Take this rank's part of every tensor; nothing is read but the small vectors."""
    return Weights(
        embedding=source.matrix("model.embed_tokens.weight"),
        layers=tuple(_layer(source, architecture, shard, layer) for layer in range(architecture.layers)),
        norm=source.vector("model.norm.weight"),
        head=source.matrix("lm_head.weight").take_rows(shard.vocab),
    )


def _layer(source: TensorSource, architecture: Architecture, shard: Shard, layer: int) -> LayerWeights:
    prefix = f"model.layers.{layer}"
    post = architecture.post_norms
    return LayerWeights(
        attention_norm=source.vector(f"{prefix}.input_layernorm.weight"),
        attention=_attention(source, architecture, shard, f"{prefix}.self_attn"),
        attention_post_norm=source.vector(f"{prefix}.post_self_attn_layernorm.weight") if post else None,
        mlp_norm=source.vector(f"{prefix}.post_attention_layernorm.weight"),
        mlp=(
            _mlp(source, f"{prefix}.mlp", shard.dense)
            if architecture.is_dense(layer)
            else _mixture(source, architecture, shard, f"{prefix}.mlp")
        ),
        mlp_post_norm=source.vector(f"{prefix}.post_mlp_layernorm.weight") if post else None,
    )


def _attention(source: TensorSource, architecture: Architecture, shard: Shard, prefix: str) -> AttentionWeights:
    query, keys = (_widen(heads, architecture.head_dim) for heads in (shard.heads, shard.kv_heads))

    def bias(name: str, rows: range) -> Vector | None:
        if not architecture.attention_bias:
            return None
        return source.vector(f"{prefix}.{name}.bias")[rows.start : rows.stop]

    return AttentionWeights(
        q=source.matrix(f"{prefix}.q_proj.weight").take_rows(query),
        k=source.matrix(f"{prefix}.k_proj.weight").take_rows(keys),
        v=source.matrix(f"{prefix}.v_proj.weight").take_rows(keys),
        o=source.matrix(f"{prefix}.o_proj.weight").take_columns(query),
        q_bias=bias("q_proj", query),
        k_bias=bias("k_proj", keys),
        v_bias=bias("v_proj", keys),
        q_norm=source.vector(f"{prefix}.q_norm.weight") if architecture.qk_norm else None,
        k_norm=source.vector(f"{prefix}.k_norm.weight") if architecture.qk_norm else None,
    )


def _mixture(source: TensorSource, architecture: Architecture, shard: Shard, prefix: str) -> MixtureWeights:
    assert architecture.routing is not None
    experts = range(architecture.routing.experts)
    return MixtureWeights(
        router=source.matrix(f"{prefix}.gate.weight"),
        correction=source.vector(f"{prefix}.gate.e_score_correction_bias") if architecture.routing.corrected else None,
        routed=ExpertWeights(tuple(_mlp(source, f"{prefix}.experts.{e}", shard.expert) for e in experts)),
        shared=_mlp(source, f"{prefix}.shared_experts", shard.shared) if architecture.shared_experts else None,
    )


def _mlp(source: TensorSource, prefix: str, columns: range) -> MlpWeights:
    return MlpWeights(
        gate=source.matrix(f"{prefix}.gate_proj.weight").take_rows(columns),
        down=source.matrix(f"{prefix}.down_proj.weight").take_columns(columns),
        up=source.matrix(f"{prefix}.up_proj.weight").take_rows(columns),
    )


def _widen(heads: range, head_dim: int) -> range:
    return range(heads.start * head_dim, heads.stop * head_dim)
