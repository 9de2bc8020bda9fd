"""From a model file to a model that is ready to run."""

from pathlib import Path
from typing import TYPE_CHECKING

from dllama_glm.parallel.shard import shard
from dllama_glm.quantise.cache import loops_cache
from dllama_glm.runtime import memory, weights
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import Group
from dllama_glm.runtime.model import Model
from dllama_glm.runtime.source import FileTensors
from dllama_glm.runtime.weights import Weights

if TYPE_CHECKING:
    from dllama_glm.devices.card import Card
    from dllama_glm.devices.cuda import CudaDevice
    from dllama_glm.parallel.shard import Shard


def load_model(  # noqa: PLR0913 - what to load, and how
    path: Path,
    architecture: Architecture,
    group: Group,
    threads: int,
    *,
    max_seq_len: int | None = None,
    exact: bool = False,
    resident: bool | None = None,
    card: "Card | None" = None,
) -> Model:
    """Take this rank's part of the file.

    The cache has room for `max_seq_len` positions (the model's, if it is None). `exact`: all arithmetic in float32.
    `resident`: weights are copied into memory; None: if they take at most half of what is available; otherwise they
    are used where they are mapped. With a `card` they are on it, and `threads` and `resident` mean nothing.
    """
    part = shard(architecture, group.rank, group.ranks)
    kept = weights.load(FileTensors(path), architecture, part)
    if card is not None:
        capacity = max_seq_len or positions_on(card, path, architecture, group.rank, group.ranks, exact=exact)
        placed = _on_card(kept, architecture, part, group, capacity, card=card, exact=exact)
        return Model(architecture, placed, group, first=part.vocab.start, capacity=capacity)
    with loops_cache():
        from dllama_glm.devices.cpu import CpuDevice

    resident = memory.fits(kept) if resident is None else resident
    if resident:
        kept = memory.brought_in(kept, threads)
    capacity = max_seq_len or architecture.max_seq_len
    device = CpuDevice(kept, architecture, part, group, capacity, threads=threads, exact=exact, resident=resident)
    return Model(architecture, device, group, first=part.vocab.start, capacity=capacity)


def positions_on(card: "Card", path: Path, architecture: Architecture, rank: int, ranks: int, *, exact: bool) -> int:
    """How many positions a rank's cache has on a card if nobody says: the model's, or what fits beside the weights."""
    from dllama_glm.devices.card import positions_for
    from dllama_glm.devices.layout import cache_bytes, device_bytes

    part = shard(architecture, rank, ranks)
    taken = device_bytes(weights.load(FileTensors(path), architecture, part))
    found = positions_for(card, taken, cache_bytes(architecture, part, exact=exact))
    return min(found, architecture.max_seq_len)


def _on_card(
    kept: Weights, architecture: Architecture, part: "Shard", group: Group, capacity: int,
    *, card: "Card", exact: bool,
) -> "CudaDevice":  # fmt: skip
    """Lay the weights out on the card, if they fit, and have it show before and after that it computes rightly."""
    from dllama_glm.devices.card import check_room, told_plainly
    from dllama_glm.devices.card_check import check_layer, try_layer
    from dllama_glm.devices.cuda import CudaDevice
    from dllama_glm.devices.layout import cache_bytes, check_storage, device_bytes

    check_storage(kept)
    check_room(card, device_bytes(kept), capacity * cache_bytes(architecture, part, exact=exact))
    with told_plainly("a layer of the model's size"):
        try_layer(kept, architecture, part, group, card=card, exact=exact)
    with told_plainly("loading the model"):
        device = CudaDevice(kept, architecture, part, group, capacity, card=card, exact=exact)
        check_layer(device, kept, architecture, part, exact=exact)
    return device
