"""One conversion from plan to final name."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dllama_glm.convert.chunks import cut
from dllama_glm.convert.crew import crew_size
from dllama_glm.convert.digest import Digest
from dllama_glm.convert.errors import OutputError
from dllama_glm.convert.output import Output
from dllama_glm.convert.pipeline import Pipeline, ready_encoders
from dllama_glm.convert.plan import Plan
from dllama_glm.convert.progress import Progress, State
from dllama_glm.convert.supply import FolderSupply, Supply

# Values in one piece of work: it stays in the processor's cache from reading to writing.
_CHUNK_VALUES = 1 << 20
_LOW_MEMORY_VALUES = 1 << 18
_SLOW_COMPILE = 0.5


@dataclass(frozen=True)
class Result:
    """`seconds` from the first byte read to the final name, `sync_seconds` of them after the last one was converted.

    `threads` worked on pieces of at most `piece_values` values. `sha256` of the file: None where
    nobody asked or it is not known.
    """

    bytes_read: int
    bytes_written: int
    seconds: float
    sync_seconds: float
    resumed_tensors: int
    threads: int
    piece_values: int
    sha256: str | None

    @property
    def low_memory(self) -> bool:
        """Whether few threads worked on small pieces, whatever was asked for."""
        return self.piece_values <= _LOW_MEMORY_VALUES and self.threads <= crew_size(low_memory=True)

    @property
    def mb_per_s(self) -> float:
        """Source megabytes (10^6) a second."""
        return self.bytes_read / 1e6 / max(self.seconds, 1e-9)


def convert(
    plan: Plan,
    path: Path,
    progress: Progress,
    supply: Supply | None = None,
    *,
    low_memory: bool = False,
    fresh: bool = False,
    digest: bool = False,
) -> Result:
    """Write the plan's output to `path`, going on with a killed run's part unless `fresh`.

    `supply` gives the shards and is closed at the end; None: they are the plan's own files. `digest`: the result has
    the sha256 of the file, where it could be computed beside the work. Raises Busy, OutputError
    (the partial file stays, unless a shard changed meanwhile), BadValue (likewise), OSError for the source, and what
    the supply raises.
    """
    output = Output(path, plan.fingerprint(), [source.slot.end for source in plan.sources], fresh=fresh)
    try:
        if output.resumed:
            progress.note(
                f"going on with {output.partial.name}: {len(output.resumed)} of {len(plan.sources)} tensors done"
            )
        supply = supply or FolderSupply(plan)
        try:
            if damaged := supply.unsound(output):
                output.redo(damaged)
                progress.note(f"{len(damaged)} of them are not what the source says: they are converted again")
            following = _followed(plan, output) if digest else None
            try:
                return _fill(plan, output, supply, progress, low_memory=low_memory, digest=following)
            finally:
                if following:
                    following.close()
        finally:
            supply.close()
    finally:
        output.close()


def _followed(plan: Plan, output: Output) -> Digest:
    """The digest of what is written from now on, and of what an earlier run left."""
    digest = Digest(output.partial, plan.write_bytes)
    for slot in (plan.sources[index].slot for index in output.resumed):
        digest.wrote(slot.offset, slot.end)
    output.on_written = digest.wrote
    return digest


def _fill(
    plan: Plan, output: Output, supply: Supply, progress: Progress, *, low_memory: bool, digest: Digest | None
) -> Result:
    piece, threads = _LOW_MEMORY_VALUES if low_memory else _CHUNK_VALUES, crew_size(low_memory=low_memory)
    chunks = cut(plan.sources, piece, skip=output.resumed)
    began = time.monotonic()
    encoders = ready_encoders(chunks)
    compiled = time.monotonic() - began
    if compiled > _SLOW_COMPILE:
        progress.note(
            f"compiled the loops in {compiled:.1f} s (kept for the next run)", compile_seconds=round(compiled, 2)
        )
    read, written = 0, len(plan.header)

    def watch(tensor: str, converted: int = 0) -> None:
        progress.update(State(*supply.amount(read + converted), tensor))

    progress.start()
    began = time.monotonic()
    output.write(0, memoryview(plan.header))
    for batch, reader in supply.batches(chunks, watch):
        pipeline = Pipeline(batch, reader, output, threads, encoders)
        pipeline.run(partial(_look, pipeline, watch), progress.interval)
        read, written = read + pipeline.read, written + pipeline.written
    filled = time.monotonic()
    if changed := supply.changed():
        output.discard()
        raise OutputError(
            f"{', '.join(changed)} changed while it was converted: what was written is thrown away; run it again"
        )
    output.commit()
    sha256 = digest.result() if digest else None
    ended = time.monotonic()
    return Result(read, written, ended - began, ended - filled, len(output.resumed), threads, piece, sha256)


def _look(pipeline: Pipeline, watch: Callable[[str, int], None]) -> None:
    watch(pipeline.tensor, pipeline.read)
