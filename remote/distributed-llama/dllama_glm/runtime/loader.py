"""From a model file to a model that is ready to run."""

from pathlib import Path

from dllama_glm.parallel.shard import shard
from dllama_glm.quantise.cache import loops_cache
from dllama_glm.runtime import memory, weights
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import Group
from dllama_glm.runtime.model import Model
from dllama_glm.runtime.source import FileTensors


def load_model(
    path: Path,
    architecture: Architecture,
    group: Group,
    threads: int,
    *,
    max_seq_len: int | None = None,
    exact: bool = False,
    resident: bool | None = None,
) -> Model:
    """Take this rank's part of the file.

    The cache has room for `max_seq_len` positions (the model's, if it is None). `exact`: all arithmetic in float32.
    `resident`: weights are copied into memory; None: if they take at most half of what is available; otherwise they
    are used where they are mapped.
    """
    with loops_cache():
        from dllama_glm.devices.cpu import CpuDevice

    part = shard(architecture, group.rank, group.ranks)
    kept = weights.load(FileTensors(path), architecture, part)
    resident = memory.fits(kept) if resident is None else resident
    if resident:
        kept = memory.brought_in(kept, threads)
    capacity = max_seq_len or architecture.max_seq_len
    device = CpuDevice(kept, architecture, part, group, capacity, threads=threads, exact=exact, resident=resident)
    return Model(architecture, device, group, first=part.vocab.start, capacity=capacity)
