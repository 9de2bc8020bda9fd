"""What the header of a `.m` file says, decoded and checked: every size and switch of the model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from dllama_glm.formats.float_types import BLOCK_VALUES, FloatType
from dllama_glm.formats.model_keys import (
    PAIR_BYTES,
    PREFIX_BYTES,
    Arch,
    Key,
    ModelFileError,
    Pairs,
    RopeType,
    Scoring,
    bits_float,
)

E = TypeVar("E", bound=IntEnum)

# No model comes near these; a damaged header that claims more would otherwise cost minutes and memory to refuse.
_LIMITS = {
    "n_layers": 2048,
    "n_experts": 4096,
    "n_shared_experts": 1024,
    "n_heads": 1 << 16,
    "head_dim": 1 << 16,
    "dim": 1 << 24,
    "hidden_dim": 1 << 24,
    "moe_hidden_dim": 1 << 24,
    "vocab_size": 1 << 26,
}
_SCORED = 2  # experts of a group whose scores, added, are the group's
_MAX_EXPERT_MATRICES = 1 << 20


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of rotary wavelengths."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_seq_len: int


@dataclass(frozen=True)
class Header:
    """What the header says, decoded; `pairs` are the pairs as they stand in the file.

    `hidden_dim` is the width of a dense MLP, `moe_hidden_dim` of one expert (0 without experts); `n_shared_experts`
    experts of that width are always on, stored as one MLP. `rope_scaling` is None when wavelengths are not stretched.
    `window`: how many positions a token sees, its own included; 0: all.
    """

    pairs: Pairs
    arch: Arch
    weight_type: FloatType
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    n_experts: int
    n_active_experts: int
    vocab_size: int
    max_seq_len: int
    hidden_act: int
    window: int
    rope_theta: float
    rope_type: RopeType
    rope_scaling: RopeScaling | None
    head_dim: int
    norm_eps: float
    moe_hidden_dim: int
    rotary_dim: int
    first_dense_layers: int
    n_shared_experts: int
    scoring: Scoring
    routed_scaling_factor: float
    attention_bias: bool
    qk_norm: bool
    n_groups: int
    topk_groups: int
    norm_topk_prob: bool

    @property
    def size(self) -> int:
        """Bytes in front of the first weight."""
        return PREFIX_BYTES + PAIR_BYTES * len(self.pairs)

    @property
    def q_dim(self) -> int:
        """Width of the queries of one position."""
        return self.n_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of the keys (or values) of one position."""
        return self.n_kv_heads * self.head_dim

    @property
    def post_norms(self) -> bool:
        """Whether the results of attention and MLP are normed before they are added (dense GLM-4)."""
        return self.arch is Arch.GLM4

    def is_moe_layer(self, layer: int) -> bool:
        """Whether this layer's MLP is a mixture of experts."""
        return self.n_experts > 0 and layer >= self.first_dense_layers


def header_from_pairs(pairs: Pairs) -> Header:
    """Decode and check the pairs of a header. Raises ModelFileError, without the file's name."""
    values = _unique(pairs)
    arch = _enum(Arch, values, Key.ARCH_TYPE)
    for key in sorted(values):
        if key >= Key.ROTARY_DIM and (arch is not Arch.LLAMA if key is Key.WINDOW else not arch.is_glm):
            raise ModelFileError(f"has the header key {int(key)}, which {arch.name} does not have")
    header = _decode_glm(pairs, values, arch) if arch.is_glm else _decode_upstream(pairs, values, arch)
    _check(header)
    return header


def _unique(pairs: Pairs) -> dict[Key, int]:
    values: dict[Key, int] = {}
    for number, value in pairs:
        try:
            key = Key(number)
        except ValueError:
            raise ModelFileError(f"has the unknown header key {number}") from None
        if key in values:
            raise ModelFileError(f"has the header key {number} ({key.name.lower()}) twice")
        values[key] = value
    return values


def _need(values: Mapping[Key, int], key: Key) -> int:
    if key not in values:
        raise ModelFileError(f"lacks the header key {int(key)} ({key.name.lower()})")
    return values[key]


def _enum(kind: type[E], values: Mapping[Key, int], key: Key, default: E | None = None) -> E:
    if default is not None and key not in values:
        return default
    value = _need(values, key)
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(f"{int(member)} {member.name}" for member in kind)
        raise ModelFileError(f"says {value} for header key {int(key)} ({key.name.lower()}); known: {allowed}") from None


def _flag(values: Mapping[Key, int], key: Key) -> bool:
    value = _need(values, key)
    if value not in {0, 1}:
        raise ModelFileError(f"says {value} for header key {int(key)} ({key.name.lower()}), which is 0 or 1")
    return bool(value)


def _decode_upstream(pairs: Pairs, values: Mapping[Key, int], arch: Arch) -> Header:
    epsilon = values.get(Key.NORM_EPSILON, 5)
    if epsilon not in {5, 6}:
        raise ModelFileError(f"says {epsilon} for header key 20 (norm_epsilon); known: 5 for 1e-5, 6 for 1e-6")
    heads = _need(values, Key.N_HEADS)
    head_dim = values.get(Key.HEAD_DIM, 0) or (_need(values, Key.DIM) // heads if heads > 0 else 0)
    qwen = arch in {Arch.QWEN3, Arch.QWEN3_MOE}
    rope_type = RopeType.HALF_SPLIT if qwen else _enum(RopeType, values, Key.ROPE_TYPE, RopeType.ADJACENT)
    moe_width = values.get(Key.MOE_HIDDEN_DIM, 0) if arch is Arch.QWEN3_MOE else _need(values, Key.HIDDEN_DIM)
    return Header(
        **_sizes(pairs, values, arch),
        n_experts=values.get(Key.N_EXPERTS, 0),
        n_active_experts=values.get(Key.N_ACTIVE_EXPERTS, 0),
        rope_theta=float(values.get(Key.ROPE_THETA, 10000)),
        rope_type=rope_type,
        rope_scaling=_scaling(values) if rope_type is RopeType.LLAMA3_1 else None,
        head_dim=head_dim,
        norm_eps=1e-5 if epsilon == 5 else 1e-6,
        moe_hidden_dim=moe_width if values.get(Key.N_EXPERTS, 0) else 0,
        rotary_dim=head_dim,
        first_dense_layers=0,
        n_shared_experts=0,
        scoring=Scoring.SOFTMAX,
        routed_scaling_factor=1.0,
        attention_bias=False,
        qk_norm=qwen,
        n_groups=1,
        topk_groups=1,
        norm_topk_prob=True,
    )


def _decode_glm(pairs: Pairs, values: Mapping[Key, int], arch: Arch) -> Header:
    moe = arch is Arch.GLM4_MOE
    return Header(
        **_sizes(pairs, values, arch),
        n_experts=_need(values, Key.N_EXPERTS),
        n_active_experts=_need(values, Key.N_ACTIVE_EXPERTS),
        rope_theta=bits_float(_need(values, Key.ROPE_THETA_BITS)),
        rope_type=_enum(RopeType, values, Key.ROPE_TYPE),
        rope_scaling=None,
        head_dim=_need(values, Key.HEAD_DIM),
        norm_eps=bits_float(_need(values, Key.NORM_EPS_BITS)),
        moe_hidden_dim=_need(values, Key.MOE_HIDDEN_DIM) if moe else 0,
        rotary_dim=_need(values, Key.ROTARY_DIM),
        first_dense_layers=_need(values, Key.FIRST_DENSE_LAYERS) if moe else 0,
        n_shared_experts=_need(values, Key.N_SHARED_EXPERTS) if moe else 0,
        scoring=_enum(Scoring, values, Key.SCORING) if moe else Scoring.SOFTMAX,
        routed_scaling_factor=bits_float(_need(values, Key.ROUTED_SCALING_FACTOR)) if moe else 1.0,
        attention_bias=_flag(values, Key.ATTENTION_BIAS),
        qk_norm=_flag(values, Key.QK_NORM),
        n_groups=_need(values, Key.N_GROUPS) if moe else 1,
        topk_groups=_need(values, Key.TOPK_GROUPS) if moe else 1,
        norm_topk_prob=_flag(values, Key.NORM_TOPK_PROB) if moe else True,
    )


def _sizes(pairs: Pairs, values: Mapping[Key, int], arch: Arch) -> dict[str, Any]:
    if _need(values, Key.VERSION) != 0:
        raise ModelFileError(f"has version {values[Key.VERSION]}; known: 0")
    return {
        "pairs": pairs,
        "arch": arch,
        "weight_type": _enum(FloatType, values, Key.WEIGHTS_FLOAT_TYPE),
        "dim": _need(values, Key.DIM),
        "hidden_dim": _need(values, Key.HIDDEN_DIM),
        "n_layers": _need(values, Key.N_LAYERS),
        "n_heads": _need(values, Key.N_HEADS),
        "n_kv_heads": _need(values, Key.N_KV_HEADS),
        "vocab_size": _need(values, Key.VOCAB_SIZE),
        "max_seq_len": _need(values, Key.MAX_SEQ_LEN),
        "hidden_act": values.get(Key.HIDDEN_ACT, 1),
        "window": values.get(Key.WINDOW, 0),
    }


def _scaling(values: Mapping[Key, int]) -> RopeScaling:
    return RopeScaling(
        factor=float(_need(values, Key.ROPE_SCALING_FACTOR)),
        low_freq_factor=float(_need(values, Key.ROPE_SCALING_LOW_FREQ_FACTOR)),
        high_freq_factor=float(_need(values, Key.ROPE_SCALING_HIGH_FREQ_FACTOR)),
        original_max_seq_len=_need(values, Key.ROPE_SCALING_ORIG_MAX_SEQ_LEN),
    )


def _check(header: Header) -> None:
    for field in ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len", "head_dim"):
        if getattr(header, field) <= 0:
            raise ModelFileError(f"says {getattr(header, field)} for {field}, which must be positive")
    for field, limit in _LIMITS.items():
        if getattr(header, field) > limit:
            raise ModelFileError(f"says {getattr(header, field)} for {field}; the most that is read is {limit}")
    if header.window < 0 or (header.window == 0 and any(key == Key.WINDOW for key, _ in header.pairs)):
        raise ModelFileError(f"says {header.window} for header key 112 (window), which must be positive")
    if header.n_heads % header.n_kv_heads:
        raise ModelFileError(f"has {header.n_heads} heads, which {header.n_kv_heads} key-value heads cannot share")
    if header.hidden_act not in {0, 1}:
        raise ModelFileError(f"says {header.hidden_act} for header key 11 (hidden_act); known: 0 gelu, 1 silu")
    if header.head_dim % 2 or header.rotary_dim % 2 or not 0 < header.rotary_dim <= header.head_dim:
        raise ModelFileError(f"turns {header.rotary_dim} of {header.head_dim} values of a head, which is not possible")
    if not (0 < header.rope_theta < math.inf and 0 < header.norm_eps < 1):
        raise ModelFileError(f"has rope_theta {header.rope_theta} and norm_eps {header.norm_eps}")
    _check_experts(header)
    if header.weight_type.blocked:
        _check_blocks(header)


def _check_experts(header: Header) -> None:
    moe = header.arch in {Arch.QWEN3_MOE, Arch.GLM4_MOE}
    if moe != (header.n_experts > 0) or header.n_experts < 0:
        raise ModelFileError(f"has {header.n_experts} experts, which does not go with {header.arch.name}")
    if not moe:
        return
    if header.n_layers * header.n_experts > _MAX_EXPERT_MATRICES:
        raise ModelFileError(f"claims {header.n_layers} layers of {header.n_experts} experts")
    if not 0 < header.n_active_experts <= header.n_experts or header.moe_hidden_dim <= 0:
        raise ModelFileError(
            f"uses {header.n_active_experts} of {header.n_experts} experts of width {header.moe_hidden_dim}"
        )
    if not 0 <= header.first_dense_layers <= header.n_layers:
        raise ModelFileError(f"says that {header.first_dense_layers} of {header.n_layers} layers are dense")
    if header.n_shared_experts < 0:
        raise ModelFileError(f"has {header.n_shared_experts} shared experts")
    groups, kept = header.n_groups, header.topk_groups
    if groups < 1 or header.n_experts % groups or not 1 <= kept <= groups:
        raise ModelFileError(f"keeps {kept} of {groups} groups of {header.n_experts} experts, which is not possible")
    if groups > 1 and (
        header.n_experts // groups < _SCORED or header.n_active_experts > kept * header.n_experts // groups
    ):
        raise ModelFileError(
            f"chooses {header.n_active_experts} experts out of {kept} groups of {header.n_experts // groups}, "
            "which is not possible"
        )
    if not math.isfinite(header.routed_scaling_factor):
        raise ModelFileError(f"has the routed_scaling_factor {header.routed_scaling_factor}")


def _check_blocks(header: Header) -> None:
    for field in ("dim", "hidden_dim", "moe_hidden_dim", "q_dim"):
        if getattr(header, field) % BLOCK_VALUES:
            raise ModelFileError(
                f"stores {header.weight_type.name} blocks of {BLOCK_VALUES}, but {field} is {getattr(header, field)}"
            )
