"""A `.m` file as the runtime sees it: its architecture and its tensors."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from dllama_glm.formats.model_file import Arch, Header, MappedModel, ModelFileError, RopeType, Scoring, read_header
from dllama_glm.runtime.architecture import Architecture, Llama3Scaling, Rotary, Routing
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.matrix import Matrix

SILU = 1


def read_architecture(path: Path) -> Architecture:
    """Read the header alone; refuse a file that is no model or that the runtime would compute wrongly."""
    try:
        header = read_header(path)
    except ModelFileError as error:
        raise DllamaError(str(error)) from error
    if header.hidden_act != SILU:
        raise DllamaError(f"{path}: its activation is GELU; the runtime computes SiLU only.")
    return architecture_of(header)


def architecture_of(header: Header) -> Architecture:
    """Translate a header."""
    return Architecture(
        name=header.arch.name.lower(),
        dim=header.dim,
        layers=header.n_layers,
        heads=header.n_heads,
        kv_heads=header.n_kv_heads,
        head_dim=header.head_dim,
        dense_width=header.hidden_dim,
        expert_width=header.moe_hidden_dim,
        shared_experts=header.n_shared_experts,
        first_dense_layers=header.first_dense_layers,
        vocab_size=header.vocab_size,
        max_seq_len=header.max_seq_len,
        norm_eps=header.norm_eps,
        rotary=_rotary(header),
        routing=_routing(header) if header.n_experts else None,
        attention_bias=header.attention_bias,
        qk_norm=header.qk_norm,
        post_norms=header.post_norms,
        window=header.window or header.max_seq_len,
    )


class FileTensors:
    """Implements `weights.TensorSource` over a mapped file."""

    def __init__(self, path: Path) -> None:
        try:
            self._model = MappedModel(path)
        except ModelFileError as error:
            raise DllamaError(str(error)) from error

    def matrix(self, name: str) -> Matrix:
        """Return a matrix as a view of the file."""
        slot = self._model.slot(name)
        rows, columns = slot.shape
        stride = slot.float_type.nbytes(columns)
        return Matrix(self._model.raw(name), int(slot.float_type), rows, columns, offset=0, stride=stride)

    def vector(self, name: str) -> npt.NDArray[np.float32]:
        """Return a vector as float32."""
        return self._model.values(name)


def _rotary(header: Header) -> Rotary:
    scaling = None
    if header.rope_scaling is not None:
        scaling = Llama3Scaling(
            factor=header.rope_scaling.factor,
            low_freq_factor=header.rope_scaling.low_freq_factor,
            high_freq_factor=header.rope_scaling.high_freq_factor,
            original_max_seq_len=header.rope_scaling.original_max_seq_len,
        )
    return Rotary(header.rope_theta, header.rotary_dim, header.rope_type is not RopeType.HALF_SPLIT, scaling)


def _routing(header: Header) -> Routing:
    return Routing(
        experts=header.n_experts,
        active=header.n_active_experts,
        sigmoid=header.scoring is Scoring.SIGMOID,
        normalise=header.norm_topk_prob,
        scale=header.routed_scaling_factor,
        groups=header.n_groups,
        groups_kept=header.topk_groups,
        corrected=header.arch is Arch.GLM4_MOE,
    )
