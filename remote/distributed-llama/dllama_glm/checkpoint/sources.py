"""Which tensor of the checkpoint each tensor of the `.m` file comes from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from dllama_glm.checkpoint.config import ModelConfig
from dllama_glm.checkpoint.names import places, without_effect
from dllama_glm.checkpoint.shard import SourceTensor
from dllama_glm.checkpoint.summary import contents, grouped, prefix_of
from dllama_glm.formats.model_layout import HEAD, TensorSlot

READABLE = ("BF16", "F16", "F32")
_LAYER = re.compile(r"^model\.layers\.(\d{1,9})\.")
_PREDICTOR = "eh_proj.weight"  # what every layer has that only predicts the token after the next
_FOREIGN = 8  # so many tensors missing, and others there instead: the names are of another layout


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
    """One source a slot, in the slots' order.

    `problems` are tensors of the wrong kind, whatever else may be missing; `doubts` are those that are missing or left
    over, which prove nothing while a shard is missing or damaged.
    """

    sources: tuple[Source, ...]
    problems: tuple[str, ...]
    doubts: tuple[str, ...]
    notes: tuple[str, ...]


def find_sources(config: ModelConfig, slots: Sequence[TensorSlot], tensors: Mapping[str, SourceTensor]) -> Sources:
    """Match every slot with a tensor (or a part of a fused one) and every tensor with a slot."""
    sources: list[Source] = []
    problems: list[str] = []
    missing: list[TensorSlot] = []
    used: set[str] = set()
    for slot in slots:
        found = _find(config, slot, tensors)
        if isinstance(found, str):
            problems.append(found)
            used.update(place.name for place in places(config, slot))
        elif found is None:
            missing.append(slot)
        else:
            sources.append(found)
            used.add(found.tensor.name)
            if found.tensor.dtype not in READABLE:
                where = found.tensor.file.name
                problems.append(
                    f"{where}: {found.tensor.name} is {found.tensor.dtype}; readable: {', '.join(READABLE)}"
                )
    predicting, unplaced, behind = _left_over(config, tensors, used)
    doubts = [
        *_foreign(missing, unplaced, len(slots)),
        *_missing(config, missing),
        *_unplaced(config, unplaced),
        *behind,
    ]
    return Sources(tuple(sources), tuple(dict.fromkeys(problems)), tuple(doubts), tuple(predicting))


def _find(config: ModelConfig, slot: TensorSlot, tensors: Mapping[str, SourceTensor]) -> Source | str | None:
    """The slot's source; a sentence where its tensor has a wrong shape, None where there is none."""
    for place in places(config, slot):
        tensor = tensors.get(place.name)
        if tensor is None:
            continue
        if tensor.shape not in place.shapes:
            found, wanted = list(tensor.shape), list(place.shapes[0])
            return f"{tensor.file.name}: {place.name} has the shape {found}; config.json calls for {wanted}"
        return Source(slot, tensor, place.first, _heads(config, slot))
    return None


def _foreign(missing: Sequence[TensorSlot], unplaced: Sequence[SourceTensor], count: int) -> list[str]:
    """Where many tensors are missing and others stand there instead: what the shards do hold, before all else."""
    if len(missing) < _FOREIGN or not unplaced:
        return []
    names = [tensor.name for tensor in unplaced]
    prefix = prefix_of((slot.name for slot in missing), names)
    shapes = {tensor.name: tensor.shape for tensor in unplaced}
    lost = f"{len(missing):,} of {count:,} tensors not found"
    cause = f"each name stands behind {prefix!r}: save the model without it; " if prefix else ""
    return [f"the names are of another layout ({lost}): {cause}what has no place here is {contents(shapes)}"]


def _missing(config: ModelConfig, slots: Sequence[TensorSlot]) -> list[str]:
    by_name = {slot.name: slot for slot in slots}
    sentences = []
    for pattern, names in grouped(by_name).items():
        others = [place.name for place in places(config, by_name[names[0]])][1:]
        if names[0] == HEAD and not config.tied:
            tied = "and config.json does not say that it is the embedding (tie_word_embeddings)"
            sentences.append(f"{HEAD} is in no shard, {tied}")
        elif len(names) > 1:
            sentences.append(f"{pattern} is in no shard ({len(names):,} tensors, the first of them {names[0]})")
        else:
            sentences.append(f"{names[0]} is in no shard" + (f" (nor {others[0]})" if others else ""))
    return sentences


def _unplaced(config: ModelConfig, tensors: Sequence[SourceTensor]) -> list[str]:
    by_name = {tensor.name: tensor for tensor in tensors}
    sentences = []
    for names in grouped(by_name).values():
        first = by_name[names[0]]
        more = f" ({len(names) - 1:,} more like it)" if len(names) > 1 else ""
        sentences.append(
            f"{first.file.name}: {first.name} {list(first.shape)} has no place in {config.model_type}{more}"
        )
    return sentences


def _heads(config: ModelConfig, slot: TensorSlot) -> int:
    if config.heads_interleaved and slot.name.endswith(".self_attn.q_proj.weight"):
        return config.header.n_heads
    if config.heads_interleaved and slot.name.endswith(".self_attn.k_proj.weight"):
        return config.header.n_kv_heads
    return 0


def _left_over(
    config: ModelConfig, tensors: Mapping[str, SourceTensor], used: set[str]
) -> tuple[list[str], list[SourceTensor], list[str]]:
    """(a note on layers that predict the token after the next, tensors without a place, layers too many)."""
    unplaced: list[SourceTensor] = []
    layers: dict[int, list[SourceTensor]] = {}
    for name, tensor in tensors.items():
        if name in used or without_effect(name):
            continue
        layer = _LAYER.match(name)
        if layer and config.extra_layers and int(layer[1]) >= config.header.n_layers:
            layers.setdefault(int(layer[1]), []).append(tensor)
        else:
            unplaced.append(tensor)
    predicting = [layer for layer in sorted(layers) if f"model.layers.{layer}.{_PREDICTOR}" in tensors]
    skipped = sum(tensor.nbytes for layer in predicting for tensor in layers[layer])
    listed = ", ".join(map(str, predicting))
    notes = [f"left out the next-token prediction layer {listed} ({skipped / 1e6:,.1f} MB)"] if predicting else []
    return notes, unplaced, [_behind(config, layers[layer]) for layer in sorted(layers) if layer not in predicting]


def _behind(config: ModelConfig, tensors: Sequence[SourceTensor]) -> str:
    first, more = tensors[0], f" ({len(tensors) - 1} more like it)" if len(tensors) > 1 else ""
    return (
        f"{first.file.name}: {first.name} is of a layer behind the {config.header.n_layers} that config.json has, "
        f"and which predicts no next tokens{more}"
    )


def source_bytes(sources: Sequence[Source]) -> int:
    """Bytes that are read for these sources."""
    return sum(source.slot.values * source.tensor.nbytes // max(prod(source.tensor.shape), 1) for source in sources)
