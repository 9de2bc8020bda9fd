"""From config.json to the header of the `.m` file: every supported architecture, nothing assumed."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from dllama_glm.checkpoint import known_keys
from dllama_glm.checkpoint.errors import CheckpointError
from dllama_glm.checkpoint.fields import Fields, whole
from dllama_glm.checkpoint.jsonfile import read_object
from dllama_glm.checkpoint.rope import Rope, read_rope
from dllama_glm.formats.float_types import FloatType
from dllama_glm.formats.model_header import Header, header_from_pairs
from dllama_glm.formats.model_keys import Arch, Key, ModelFileError, RopeType, Scoring, float_bits

CONFIG = "config.json"
_QWEN2 = "has biases on q, k and v and no norms of q and k: the .m format of qwen3 has no place for that"
_MISTRAL_WINDOW = 4096  # what transformers takes where config.json does not say
_SILU = 1
_EPSILONS = {1e-5: 5, 1e-6: 6}

Values = dict[Key, int]


@dataclass(frozen=True)
class ModelConfig:
    """The header that the checkpoint calls for, and what the weights must be checked against.

    `tied`: the output matrix is the embedding. `heads_interleaved`: the rows of q and k are stored as adjacent pairs,
    so those of the checkpoint (two halves) are permuted. `extra_layers`: layers behind the last are left out.
    """

    header: Header
    model_type: str
    tied: bool
    heads_interleaved: bool
    extra_layers: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Family:
    arch: Arch
    keys: Collection[str]
    read: Callable[[Fields, Values, Rope], None]
    permuted: bool = False


def read_config(
    folder: Path,
    weight_type: FloatType,
    *,
    ignore: Collection[str] = (),
    rope_theta: float | None = None,
    allow_window: bool = False,
) -> ModelConfig:
    """Read and check config.json. Raises CheckpointError with every fault.

    Keys in `ignore` may be unknown; `rope_theta` holds where config.json does not say it.
    `allow_window`: leave a sliding window out of the header, as upstream does.
    """
    try:
        raw = read_object(folder / CONFIG)
    except ValueError as error:
        raise CheckpointError([f"{CONFIG}: {error}"]) from None
    fields = Fields(CONFIG, raw)
    family = _family(fields)
    for key in sorted(set(raw) - set(family.keys) - set(ignore)):
        fields.problem(f"the key {key!r} is unknown for {raw['model_type']}; if it changes nothing: --ignore-key {key}")
    rope = read_rope(fields, rope_theta)
    values = _common(fields, family.arch, weight_type)
    family.read(fields, values, rope)
    window = _window(fields, values)
    if window and not allow_window:
        values[Key.WINDOW] = window
    tied = fields.flag("tie_word_embeddings") if fields.has("tie_word_embeddings") else False
    header = _header(fields, values)
    if header is None or fields.problems:
        raise CheckpointError(fields.problems)
    return ModelConfig(
        header, str(raw["model_type"]), tied, family.permuted, family.arch is Arch.GLM4_MOE, _notes(header, window)
    )


def _family(fields: Fields) -> _Family:
    kind = fields.raw.get("model_type")
    if isinstance(kind, str) and kind in _FAMILIES:
        return _FAMILIES[kind]
    if kind == "qwen2":
        fields.problem(f"model_type qwen2 {_QWEN2}")
    else:
        fields.problem(f"model_type is {kind!r}; known: {', '.join(_FAMILIES)}")
    raise CheckpointError(fields.problems)


def _common(fields: Fields, arch: Arch, weight_type: FloatType) -> Values:
    fields.only("quantization_config", why="the weights are quantised already; convert the checkpoint in BF16")
    fields.only("use_sliding_window", False, why="windows of attention are not in the format")
    layers = fields.raw.get("layer_types")
    if layers is not None and (not isinstance(layers, list) or any(kind != "full_attention" for kind in layers)):
        fields.problem("layer_types names layers other than full_attention, which the format does not know")
    if fields.raw.get("hidden_act") != "silu":
        fields.problem(f"hidden_act is {fields.raw.get('hidden_act')!r}; the runtime computes silu only")
    return {
        Key.VERSION: 0,
        Key.ARCH_TYPE: int(arch),
        Key.HIDDEN_ACT: _SILU,
        Key.DIM: fields.integer("hidden_size"),
        Key.HIDDEN_DIM: fields.integer("intermediate_size"),
        Key.N_LAYERS: fields.integer("num_hidden_layers"),
        Key.N_HEADS: fields.integer("num_attention_heads"),
        Key.N_KV_HEADS: fields.integer("num_key_value_heads"),
        Key.WEIGHTS_FLOAT_TYPE: int(weight_type),
        Key.MAX_SEQ_LEN: fields.integer("max_position_embeddings"),
        Key.VOCAB_SIZE: fields.integer("vocab_size"),
        Key.N_EXPERTS: 0,
        Key.N_ACTIVE_EXPERTS: 0,
    }


def _dense_upstream(fields: Fields, values: Values, rope: Rope) -> None:
    """Llama, Mistral and Qwen3: pairs exactly as upstream's converter writes them."""
    fields.only("attention_bias", False, why="the format has no place for biases of attention")
    fields.only("mlp_bias", False, why="the format has no place for biases of the MLP")
    if rope.share not in {None, 1.0}:
        fields.problem(f"partial_rotary_factor is {rope.share}: {fields.raw['model_type']} turns whole heads")
    if not whole(rope.theta):
        fields.problem(f"rope_theta is {rope.theta}: the format holds whole numbers only")
    values[Key.ROPE_THETA] = int(rope.theta)
    if rope.scaling is not None:
        keys = (
            Key.ROPE_SCALING_FACTOR,
            Key.ROPE_SCALING_LOW_FREQ_FACTOR,
            Key.ROPE_SCALING_HIGH_FREQ_FACTOR,
            Key.ROPE_SCALING_ORIG_MAX_SEQ_LEN,
        )
        values.update(zip(keys, rope.scaling, strict=True))
        values[Key.ROPE_TYPE] = int(RopeType.LLAMA3_1)
        if values[Key.ARCH_TYPE] != Arch.LLAMA:
            fields.problem(f"rope scaling of {fields.raw['model_type']} would be lost: upstream's runtime ignores it")
    if fields.has("head_dim"):
        values[Key.HEAD_DIM] = fields.integer("head_dim")
    elif values[Key.ARCH_TYPE] != Arch.LLAMA or values[Key.DIM] % values[Key.N_HEADS]:
        fields.problem("head_dim is missing (no default is assumed)")
    epsilon = fields.number("rms_norm_eps")
    if epsilon not in _EPSILONS:
        fields.problem(f"rms_norm_eps is {epsilon:g}: the format of {fields.raw['model_type']} has 1e-05 and 1e-06")
    values[Key.NORM_EPSILON] = _EPSILONS.get(epsilon, 5)


def _qwen3_moe(fields: Fields, values: Values, rope: Rope) -> None:
    values[Key.N_EXPERTS] = fields.integer("num_experts", "num_local_experts")
    values[Key.N_ACTIVE_EXPERTS] = fields.integer("num_experts_per_tok")
    _dense_upstream(fields, values, rope)
    values[Key.MOE_HIDDEN_DIM] = fields.integer("moe_intermediate_size")
    if not fields.flag("norm_topk_prob"):
        fields.problem("norm_topk_prob is not true: the runtime of this format always normalises")
    fields.only("decoder_sparse_step", 1, why="every layer of the format is a mixture of experts")
    fields.only("mlp_only_layers", [], why="every layer of the format is a mixture of experts")


def _glm4(fields: Fields, values: Values, rope: Rope) -> None:
    _glm_start(fields, values, rope, RopeType.ADJACENT)
    values[Key.ATTENTION_BIAS] = int(fields.flag("attention_bias"))
    values[Key.QK_NORM] = 0
    _glm_floats(fields, values, rope)


def _glm4_moe(fields: Fields, values: Values, rope: Rope) -> None:
    fields.only("scoring_func", "sigmoid", why="this architecture scores with sigmoids")
    fields.only("topk_method", "noaux_tc", why="this architecture chooses by corrected scores in groups")
    fields.only("moe_layer_freq", 1, why="every layer behind the dense ones is a mixture of experts")
    values[Key.N_EXPERTS] = fields.integer("n_routed_experts", "num_experts", "num_local_experts")
    values[Key.N_ACTIVE_EXPERTS] = fields.integer("num_experts_per_tok")
    _glm_start(fields, values, rope, RopeType.HALF_SPLIT)
    values[Key.MOE_HIDDEN_DIM] = fields.integer("moe_intermediate_size")
    values[Key.FIRST_DENSE_LAYERS] = fields.integer("first_k_dense_replace", minimum=0)
    values[Key.N_SHARED_EXPERTS] = fields.integer("n_shared_experts", minimum=0)
    values[Key.SCORING] = int(Scoring.SIGMOID)
    values[Key.ROUTED_SCALING_FACTOR] = float_bits(fields.number("routed_scaling_factor"))
    values[Key.ATTENTION_BIAS] = int(fields.flag("attention_bias"))
    values[Key.QK_NORM] = int(fields.flag("use_qk_norm"))
    values[Key.N_GROUPS] = fields.integer("n_group")
    values[Key.TOPK_GROUPS] = fields.integer("topk_group")
    values[Key.NORM_TOPK_PROB] = int(fields.flag("norm_topk_prob"))
    _glm_floats(fields, values, rope)


def _glm_start(fields: Fields, values: Values, rope: Rope, rope_type: RopeType) -> None:
    if rope.scaling is not None:
        fields.problem("rope scaling is set, which GLM does not have")
    head_dim = fields.integer("head_dim")
    if rope.share is None:
        fields.problem("partial_rotary_factor is missing: neither at the top nor in rope_parameters")
    turned = head_dim * (rope.share or 1.0)
    if not whole(turned):
        fields.problem(f"partial_rotary_factor {rope.share} of head_dim {head_dim} is no whole number of values")
    values[Key.ROPE_THETA] = min(int(rope.theta), (1 << 31) - 1)
    values[Key.ROPE_TYPE] = int(rope_type)
    values[Key.HEAD_DIM] = head_dim
    values[Key.ROTARY_DIM] = int(turned)


def _glm_floats(fields: Fields, values: Values, rope: Rope) -> None:
    epsilon = fields.number("rms_norm_eps")
    if epsilon in _EPSILONS:
        values[Key.NORM_EPSILON] = _EPSILONS[epsilon]
    values[Key.NORM_EPS_BITS] = float_bits(epsilon)
    values[Key.ROPE_THETA_BITS] = float_bits(rope.theta)


def _header(fields: Fields, values: Values) -> Header | None:
    """The header with its pairs in the order of upstream's writer, ours behind them in ascending order."""
    pairs = tuple((int(key), values[key]) for key in _ORDER if key in values)
    try:
        return header_from_pairs(pairs)
    except ModelFileError as error:
        if not fields.problems:
            fields.problem(f"the model that it describes {error}")
        return None


_ORDER = tuple(
    Key(number) for number in (0, 1, 11, 2, 3, 4, 5, 6, 13, 10, 9, 7, 8, 12, *range(14, 22), *range(100, 113))
)
_FAMILIES = {
    "llama": _Family(Arch.LLAMA, known_keys.LLAMA, _dense_upstream, permuted=True),
    "mistral": _Family(Arch.LLAMA, known_keys.MISTRAL, _dense_upstream, permuted=True),
    "qwen3": _Family(Arch.QWEN3, known_keys.QWEN3, _dense_upstream),
    "qwen3_moe": _Family(Arch.QWEN3_MOE, known_keys.QWEN3_MOE, _qwen3_moe),
    "glm4": _Family(Arch.GLM4, known_keys.GLM4, _glm4),
    "glm4_moe": _Family(Arch.GLM4_MOE, known_keys.GLM4_MOE, _glm4_moe),
}


def _window(fields: Fields, values: Values) -> int:
    """How many positions a token of a Mistral sees; 0: all."""
    window = fields.raw.get("sliding_window", _MISTRAL_WINDOW)
    if fields.raw.get("model_type") != "mistral" or type(window) is not int:
        return 0
    return window if window < values[Key.MAX_SEQ_LEN] else 0


def _notes(header: Header, window: int) -> tuple[str, ...]:
    if not window:
        return ()
    if header.window:
        return (f"sliding_window {window} is a key that upstream refuses the file for; --allow-window leaves it out",)
    return (f"sliding_window {window} is not in the file, which holds as upstream's does up to {window} positions",)
