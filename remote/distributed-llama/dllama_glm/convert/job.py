"""One conversion from plan to final name."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dllama_glm.convert.chunks import Chunk, cut
from dllama_glm.convert.crew import crew_size
from dllama_glm.convert.errors import OutputError
from dllama_glm.convert.output import Output
from dllama_glm.convert.pipeline import Pipeline
from dllama_glm.convert.plan import Plan
from dllama_glm.convert.progress import Progress, State
from dllama_glm.convert.reader import ShardReader
from dllama_glm.quantise.encode import Encoder

# Values in one piece of work: it stays in the processor's cache from reading to writing.
_CHUNK_VALUES = 1 << 20
_LOW_MEMORY_VALUES = 1 << 18
_SAMPLE_VALUES = 1 << 12  # of a resumed tensor, at either end
_SLOW_COMPILE = 0.5


@dataclass(frozen=True)
class Result:
    """`seconds` from the first byte read to the final name, `sync_seconds` of them bringing the rest to the disk."""

    bytes_read: int
    bytes_written: int
    seconds: float
    sync_seconds: float
    resumed_tensors: int

    @property
    def mb_per_s(self) -> float:
        """Source megabytes (10^6) a second."""
        return self.bytes_read / 1e6 / max(self.seconds, 1e-9)


def convert(plan: Plan, path: Path, progress: Progress, *, low_memory: bool = False, fresh: bool = False) -> Result:
    """Write the plan's output to `path`, going on with a killed run's part unless `fresh`.

    Raises Busy, OutputError (the partial file stays, unless a shard changed meanwhile), BadValue (likewise), OSError
    for the source.
    """
    output = Output(path, plan.fingerprint(), [source.slot.end for source in plan.sources], fresh=fresh)
    try:
        if output.resumed:
            progress.note(
                f"going on with {output.partial.name}: {len(output.resumed)} of {len(plan.sources)} tensors done"
            )
        reader = ShardReader({source.tensor.file for source in plan.sources})
        try:
            if damaged := _damaged(plan, output, reader):
                output.redo(damaged)
                progress.note(f"{len(damaged)} of them are not what the source says: they are converted again")
            return _fill(plan, output, reader, progress, low_memory=low_memory)
        finally:
            reader.close()
    finally:
        output.close()


def _damaged(plan: Plan, output: Output, reader: ShardReader) -> frozenset[int]:
    """Which of the tensors that an earlier run finished differ from the source in their first or last piece."""
    skipped = frozenset(range(len(plan.sources))) - output.resumed
    pieces: dict[int, list[Chunk]] = {}
    for chunk in cut(plan.sources, _SAMPLE_VALUES, skip=skipped):
        pieces.setdefault(chunk.index, []).append(chunk)
    encoders = {kind: Encoder(kind) for kind in {chunks[0].source.slot.float_type for chunks in pieces.values()}}
    found = set()
    for index, chunks in pieces.items():
        for chunk in (chunks[0], chunks[-1]):
            wanted = np.empty(chunk.write_bytes, np.uint8)
            encoders[chunk.source.slot.float_type].encode(reader.read(chunk), chunk.source.tensor.dtype, wanted)
            if output.read(chunk.write_offset, chunk.write_bytes) != wanted.tobytes():
                found.add(index)
    return frozenset(found)


def _fill(plan: Plan, output: Output, reader: ShardReader, progress: Progress, *, low_memory: bool) -> Result:
    values = _LOW_MEMORY_VALUES if low_memory else _CHUNK_VALUES
    chunks = cut(plan.sources, values, skip=output.resumed)
    pipeline = Pipeline(chunks, reader, output, crew_size(low_memory=low_memory))
    began = time.monotonic()
    pipeline.warm_up()
    compiled = time.monotonic() - began
    if compiled > _SLOW_COMPILE:
        progress.note(
            f"compiled the loops in {compiled:.1f} s (kept for the next run)", compile_seconds=round(compiled, 2)
        )
    before = plan.read_bytes - sum(chunk.read_bytes for chunk in chunks)
    progress.start()
    began = time.monotonic()
    output.write(0, memoryview(plan.header))
    pipeline.run(
        lambda: progress.update(State(before + pipeline.read, before, plan.read_bytes, pipeline.tensor)),
        progress.interval,
    )
    filled = time.monotonic()
    if changed := plan.changed():
        output.discard()
        raise OutputError(
            f"{', '.join(changed)} changed while it was converted: what was written is thrown away; run it again"
        )
    output.commit()
    ended = time.monotonic()
    return Result(
        pipeline.read, pipeline.written + len(plan.header), ended - began, ended - filled, len(output.resumed)
    )
