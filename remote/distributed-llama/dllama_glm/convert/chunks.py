"""Cutting the work into pieces that one thread reads, encodes and writes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dllama_glm.checkpoint.sources import Source
from dllama_glm.formats.float_types import BLOCK_VALUES
from dllama_glm.quantise.encode import ITEM_BYTES


@dataclass(frozen=True, slots=True)
class Chunk:
    """`count` values of source number `index`, from its value `start` on."""

    index: int
    source: Source
    start: int
    count: int

    @property
    def read_offset(self) -> int:
        """First byte in the shard."""
        tensor = self.source.tensor
        return tensor.offset + (self.source.first + self.start) * ITEM_BYTES[tensor.dtype]

    @property
    def read_bytes(self) -> int:
        """Bytes of the shard."""
        return self.count * ITEM_BYTES[self.source.tensor.dtype]

    @property
    def write_offset(self) -> int:
        """First byte in the output."""
        return self.source.slot.offset + self.source.slot.float_type.nbytes(self.start)

    @property
    def write_bytes(self) -> int:
        """Bytes of the output."""
        return self.source.slot.float_type.nbytes(self.count)


def cut(sources: Sequence[Source], values: int, *, skip: frozenset[int] = frozenset()) -> list[Chunk]:
    """Chunks of about `values` values of all sources but those numbered in `skip`, in the order of the shards' bytes.

    A chunk is whole groups of 32 values (but for a tensor's end), and whole heads where heads are interleaved.
    """
    order = sorted(
        (index for index in range(len(sources)) if index not in skip),
        key=lambda index: (sources[index].tensor.file.name, sources[index].tensor.offset, sources[index].first),
    )
    return [chunk for index in order for chunk in _cut_one(index, sources[index], values)]


def _cut_one(index: int, source: Source, values: int) -> Iterator[Chunk]:
    total = source.slot.values
    unit = total // source.heads if source.heads else BLOCK_VALUES
    step = max(values // unit, 1) * unit
    for start in range(0, total, step):
        yield Chunk(index, source, start, min(step, total - start))
