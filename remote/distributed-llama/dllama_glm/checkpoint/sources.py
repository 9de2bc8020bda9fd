"""Which tensor of the checkpoint each tensor of the `.m` file comes from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from dllama_glm.checkpoint.config import ModelConfig
from dllama_glm.checkpoint.shard import SourceTensor
from dllama_glm.formats.model_keys import Arch
from dllama_glm.formats.model_layout import EMBEDDING, HEAD, TensorSlot

READABLE = ("BF16", "F16", "F32")
_EXPERT = re.compile(
    r"^(?P<mlp>model\.layers\.\d+\.mlp\.)experts\.(?P<expert>\d+)\.(?P<part>gate|up|down)_proj\.weight$"
)
_LAYER = re.compile(r"^model\.layers\.(\d{1,9})\.")
_PREDICTOR = "eh_proj.weight"  # what every layer has that only predicts the token after the next
_ROTARY = re.compile(r"(^|\.)rotary_emb\.inv_freq$")


@dataclass(frozen=True, slots=True)
class Source:
    """`slot.values` consecutive values of `tensor`, beginning at value `first`.

    `heads` > 0: the rows are that many heads whose two halves are to be interleaved.
    """

    slot: TensorSlot
    tensor: SourceTensor
    first: int
    heads: int


@dataclass(frozen=True)
class Sources:
    """One source a slot, in the slots' order; `problems` says what is missing, left over or of the wrong kind."""

    sources: tuple[Source, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def find_sources(config: ModelConfig, slots: Sequence[TensorSlot], tensors: Mapping[str, SourceTensor]) -> Sources:
    """Match every slot with a tensor (or a part of a fused one) and every tensor with a slot."""
    sources: list[Source] = []
    problems: list[str] = []
    used: set[str] = set()
    for slot in slots:
        found = _find(config, slot, tensors)
        if isinstance(found, str):
            problems.append(found)
            continue
        used.add(found.tensor.name)
        sources.append(found)
        if found.tensor.dtype not in READABLE:
            where = found.tensor.file.name
            problems.append(f"{where}: {found.tensor.name} is {found.tensor.dtype}; readable: {', '.join(READABLE)}")
    left, notes = _left_over(config, tensors, used)
    return Sources(tuple(sources), tuple(dict.fromkeys(problems + left)), tuple(notes))


def _find(config: ModelConfig, slot: TensorSlot, tensors: Mapping[str, SourceTensor]) -> Source | str:
    names = _names(config, slot)
    for name, shape, first in names:
        tensor = tensors.get(name)
        if tensor is None:
            continue
        if tensor.shape != shape:
            return f"{tensor.file.name}: {name} has the shape {list(tensor.shape)}; config.json calls for {list(shape)}"
        return Source(slot, tensor, first, _heads(config, slot))
    if slot.name == HEAD:
        return f"{HEAD} is in no shard, and config.json does not say that it is the embedding (tie_word_embeddings)"
    return f"{slot.name} is in no shard" + (f" (nor {names[1][0]})" if len(names) > 1 else "")


def _names(config: ModelConfig, slot: TensorSlot) -> list[tuple[str, tuple[int, ...], int]]:
    """Names under which the slot's values may stand: (name, shape of that tensor, first value of ours in it)."""
    names = [(slot.name, slot.shape, 0)]
    header = config.header
    if slot.name == HEAD and config.tied:
        names.append((EMBEDDING, slot.shape, 0))
    if match := _EXPERT.match(slot.name):
        width, expert = header.moe_hidden_dim, int(match["expert"])
        if match["part"] == "down":
            shape = (header.n_experts, header.dim, width)
            names.append((f"{match['mlp']}experts.down_proj", shape, expert * slot.values))
        else:
            shape = (header.n_experts, 2 * width, header.dim)
            part = 0 if match["part"] == "gate" else 1
            names.append((f"{match['mlp']}experts.gate_up_proj", shape, (2 * expert + part) * slot.values))
    elif header.arch is Arch.GLM4 and slot.name.endswith((".mlp.gate_proj.weight", ".mlp.up_proj.weight")):
        stem, part_name = slot.name.rsplit(".", 2)[:2]
        fused = (2 * header.hidden_dim, header.dim)
        names.append((f"{stem}.gate_up_proj.weight", fused, 0 if part_name == "gate_proj" else slot.values))
    return names


def _heads(config: ModelConfig, slot: TensorSlot) -> int:
    if config.heads_interleaved and slot.name.endswith(".self_attn.q_proj.weight"):
        return config.header.n_heads
    if config.heads_interleaved and slot.name.endswith(".self_attn.k_proj.weight"):
        return config.header.n_kv_heads
    return 0


def _left_over(config: ModelConfig, tensors: Mapping[str, SourceTensor], used: set[str]) -> tuple[list[str], list[str]]:
    problems: list[str] = []
    skipped = 0
    layers: set[int] = set()
    for name, tensor in tensors.items():
        if name in used or _ROTARY.search(name):
            continue
        layer = _LAYER.match(name)
        if layer and config.extra_layers and int(layer[1]) >= config.header.n_layers:
            if f"{layer[0]}{_PREDICTOR}" not in tensors:
                problems.append(
                    f"{tensor.file.name}: {name} is of a layer behind the {config.header.n_layers} that config.json "
                    "has, and which predicts no next tokens"
                )
                continue
            layers.add(int(layer[1]))
            skipped += tensor.nbytes
        else:
            problems.append(f"{tensor.file.name}: {name} {list(tensor.shape)} has no place in {config.model_type}")
    if not layers:
        return problems, []
    listed = ", ".join(str(layer) for layer in sorted(layers))
    return problems, [f"left out the next-token prediction layer {listed} ({skipped / 1e6:,.1f} MB)"]


def source_bytes(sources: Sequence[Source]) -> int:
    """Bytes that are read for these sources."""
    return sum(source.slot.values * source.tensor.nbytes // max(prod(source.tensor.shape), 1) for source in sources)
