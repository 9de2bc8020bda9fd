"""Where each tensor of a `.m` file lies: the order is fixed by the header, nothing in the file names a tensor."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from dllama_glm.formats.float_types import FloatType
from dllama_glm.formats.model_header import Header
from dllama_glm.formats.model_keys import Arch

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"

_Entry = tuple[str, FloatType, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """One tensor: its Hugging Face name (a fused matrix appears under the names of its parts) and its place.

    `shape` is (rows, columns) or (values,); `offset` and `nbytes` count bytes of the file.
    """

    name: str
    float_type: FloatType
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def values(self) -> int:
        """How many values it has."""
        return prod(self.shape)

    @property
    def columns(self) -> int:
        """Values in a row (all of them, if it has one dimension)."""
        return self.shape[-1]

    @property
    def end(self) -> int:
        """Offset of the byte after it."""
        return self.offset + self.nbytes


def layout(header: Header) -> tuple[TensorSlot, ...]:
    """Every tensor in file order, without gaps, from the header's end to the file's end."""
    slots = []
    offset = header.size
    for name, float_type, shape in _entries(header):
        nbytes = float_type.nbytes(prod(shape))
        slots.append(TensorSlot(name, float_type, shape, offset, nbytes))
        offset += nbytes
    return tuple(slots)


def _entries(header: Header) -> Iterator[_Entry]:
    yield EMBEDDING, FloatType.F32, (header.vocab_size, header.dim)
    for layer in range(header.n_layers):
        for name, float_type, shape in _layer(header, layer):
            yield f"model.layers.{layer}.{name}", float_type, shape
    yield "model.norm.weight", FloatType.F32, (header.dim,)
    yield HEAD, header.weight_type, (header.vocab_size, header.dim)


def _layer(header: Header, layer: int) -> Iterator[_Entry]:
    yield from _attention(header)
    if header.is_moe_layer(layer):
        yield from _experts(header)
    else:
        yield from _gated(header, "mlp.", header.hidden_dim)
    if header.qk_norm:
        yield "self_attn.q_norm.weight", FloatType.F32, (header.head_dim,)
        yield "self_attn.k_norm.weight", FloatType.F32, (header.head_dim,)
    yield "input_layernorm.weight", FloatType.F32, (header.dim,)
    yield "post_attention_layernorm.weight", FloatType.F32, (header.dim,)
    if header.post_norms:
        yield "post_self_attn_layernorm.weight", FloatType.F32, (header.dim,)
        yield "post_mlp_layernorm.weight", FloatType.F32, (header.dim,)


def _attention(header: Header) -> Iterator[_Entry]:
    for letter, rows in (("q", header.q_dim), ("k", header.kv_dim), ("v", header.kv_dim)):
        yield f"self_attn.{letter}_proj.weight", header.weight_type, (rows, header.dim)
        if header.attention_bias:
            yield f"self_attn.{letter}_proj.bias", FloatType.F32, (rows,)
    yield "self_attn.o_proj.weight", header.weight_type, (header.dim, header.q_dim)


def _experts(header: Header) -> Iterator[_Entry]:
    yield "mlp.gate.weight", FloatType.F32, (header.n_experts, header.dim)
    if header.arch is Arch.GLM4_MOE:
        yield "mlp.gate.e_score_correction_bias", FloatType.F32, (header.n_experts,)
    for expert in range(header.n_experts):
        yield from _gated(header, f"mlp.experts.{expert}.", header.moe_hidden_dim)
    if header.n_shared_experts:
        yield from _gated(header, "mlp.shared_experts.", header.n_shared_experts * header.moe_hidden_dim)


def _gated(header: Header, prefix: str, width: int) -> Iterator[_Entry]:
    yield f"{prefix}gate_proj.weight", header.weight_type, (width, header.dim)
    yield f"{prefix}down_proj.weight", header.weight_type, (header.dim, width)
    yield f"{prefix}up_proj.weight", header.weight_type, (width, header.dim)
