"""Where the converter's chunks are read from: a folder that holds every shard, or whatever brings them in turn."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from dllama_glm.convert.chunks import Chunk, cut
from dllama_glm.convert.output import Output
from dllama_glm.convert.plan import Plan
from dllama_glm.convert.reader import ShardReader
from dllama_glm.quantise.encode import Encoder

Batch: TypeAlias = tuple[Sequence[Chunk], ShardReader]
Watch: TypeAlias = Callable[[str], None]

_SAMPLE_VALUES = 1 << 12  # of a resumed tensor, at either end


class Supply(Protocol):
    """Gives the chunks in batches, each with a reader that can read it until the next one is asked for."""

    def unsound(self, output: Output) -> frozenset[int]:
        """The tensors that an earlier run finished and that have to be done again."""

    def batches(self, chunks: Sequence[Chunk], watch: Watch) -> Iterator[Batch]:
        """All chunks, none twice; while it waits, `watch` is told for what."""

    def amount(self, converted: int) -> tuple[int, int, int]:
        """(bytes so far, those of an earlier run among them, bytes in all), after `converted` bytes of chunks."""

    def changed(self) -> list[str]:
        """The shards that are not what they were when the plan was made."""

    def close(self) -> None:
        """Let everything go."""


class FolderSupply:
    """The shards of a folder, all at once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._reader = ShardReader({source.tensor.file for source in plan.sources})
        self._before = 0

    def unsound(self, output: Output) -> frozenset[int]:
        """Those that differ from the source in their first or last piece."""
        sources = self._plan.sources
        pieces: dict[int, list[Chunk]] = {}
        for chunk in cut(sources, _SAMPLE_VALUES, skip=frozenset(range(len(sources))) - output.resumed):
            pieces.setdefault(chunk.index, []).append(chunk)
        encoders = {kind: Encoder(kind) for kind in {chunks[0].source.slot.float_type for chunks in pieces.values()}}
        found = set()
        for index, chunks in pieces.items():
            for chunk in (chunks[0], chunks[-1]):
                wanted = np.empty(chunk.write_bytes, np.uint8)
                encoder = encoders[chunk.source.slot.float_type]
                encoder.encode(self._reader.read(chunk), chunk.source.tensor.dtype, wanted)
                if output.read(chunk.write_offset, chunk.write_bytes) != wanted.tobytes():
                    found.add(index)
        return frozenset(found)

    def batches(self, chunks: Sequence[Chunk], watch: Watch) -> Iterator[Batch]:  # noqa: ARG002 - nothing to wait for
        """One batch."""
        self._before = self._plan.read_bytes - sum(chunk.read_bytes for chunk in chunks)
        yield chunks, self._reader

    def amount(self, converted: int) -> tuple[int, int, int]:
        """In bytes of the tensors that are needed."""
        return self._before + converted, self._before, self._plan.read_bytes

    def changed(self) -> list[str]:
        """By size, time and inode."""
        return self._plan.changed()

    def close(self) -> None:
        """Close the shards."""
        self._reader.close()
