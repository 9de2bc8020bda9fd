"""The verification itself."""

import random
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from dllama_glm.convert.chunks import Chunk, cut
from dllama_glm.convert.crew import Crew, crew_size
from dllama_glm.convert.errors import BadValue
from dllama_glm.convert.pipeline import bad_value
from dllama_glm.convert.plan import Plan, make_plan
from dllama_glm.convert.progress import State
from dllama_glm.convert.reader import ShardReader
from dllama_glm.formats.model_file import MappedModel, ModelFileError, read_header
from dllama_glm.formats.model_keys import Key, Pairs
from dllama_glm.quantise.encode import Bytes, Encoder, ErrorMeter, NotStorable
from dllama_glm.verify.report import Report
from dllama_glm.verify.tally import Tally

_CHUNK_VALUES = 1 << 20
# Small pieces spread a sample over the whole file; larger ones would leave most tensors to chance.
_SAMPLE_VALUES = 1 << 14
_SEED = 20


def verify(
    m_path: Path | str,
    folder: Path | str,
    sample: float | None = None,
    *,
    ignore: Collection[str] = (),
    rope_theta: float | None = None,
    watch: Callable[[State], None] | None = None,
) -> Report:
    """Compare a `.m` file with the checkpoint that it was made of, byte for byte.

    `sample` (above 0, up to 1): the share of blocks to check, at least one piece of every tensor, the same at every
    call; None checks all. `ignore` and `rope_theta` are those of the conversion. `watch` is told how far it is. Raises
    CheckpointError for a checkpoint that could not be converted, BadValue for one of its values; whatever is wrong with
    the file is in the report.
    """
    m_path, folder = Path(m_path), Path(folder)
    try:
        header = read_header(m_path)
    except ModelFileError as error:
        return _unusable(m_path, folder, [str(error)])
    # A window may be left out of a file; the checkpoint alone does not tell whether that was meant.
    plan = make_plan(folder, header.weight_type, ignore=ignore, rope_theta=rope_theta, allow_window=not header.window)
    try:
        model = MappedModel(m_path)
    except ModelFileError as error:
        return _unusable(m_path, folder, [*_compare_headers(plan, read_header(m_path).pairs), str(error)])
    if differing := _compare_headers(plan, model.header.pairs):
        return _unusable(m_path, folder, differing)
    chunks = cut(plan.sources, _CHUNK_VALUES) if sample is None else _sampled(plan, sample)
    tally = Tally(plan.sources)
    reader = ShardReader({source.tensor.file for source in plan.sources})
    try:
        seconds = _compare(chunks, reader, model, tally, watch)
    finally:
        reader.close()
        model.close()
    return Report(str(m_path), str(folder), (), tally.places(), tally.tensors(), tally.read, seconds)


def _unusable(m_path: Path, folder: Path, faults: Iterable[str]) -> Report:
    return Report(str(m_path), str(folder), tuple(faults), (), (), 0, 0.0)


def _compare_headers(plan: Plan, found: Pairs) -> list[str]:
    expected = plan.config.header.pairs
    if expected == found:
        return []
    ours, theirs = dict(expected), dict(found)
    differing = [
        f"header key {key} ({Key(key).name.lower()}) is {theirs.get(key)}, the checkpoint calls for {ours.get(key)}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]
    return differing or ["the header's pairs stand in another order than the converter writes them"]


def _sampled(plan: Plan, share: float) -> list[Chunk]:
    """A share of all pieces, chosen by a fixed seed, with at least one of every tensor."""
    choice = random.Random(_SEED)  # noqa: S311 - a sample, not a secret
    chosen: list[Chunk] = []
    pieces: dict[int, list[Chunk]] = {}
    for chunk in cut(plan.sources, _SAMPLE_VALUES):
        pieces.setdefault(chunk.index, []).append(chunk)
    for group in pieces.values():
        picked = [chunk for chunk in group if choice.random() < share]
        chosen += picked or [choice.choice(group)]
    return chosen


def _compare(
    chunks: list[Chunk],
    reader: ShardReader,
    model: MappedModel,
    tally: Tally,
    watch: Callable[[State], None] | None,
) -> float:
    """Fill the tally; returns the seconds from the first byte read, without the loading of the compiled loops."""
    types = {chunk.source.slot.float_type for chunk in chunks}
    encoders = {kind: Encoder(kind) for kind in types}
    meters = {kind: ErrorMeter(kind) for kind in types}
    for kind in types:
        encoders[kind].warm_up()
        meters[kind].warm_up()

    def work(chunk: Chunk, out: Bytes) -> None:
        kind, dtype = chunk.source.slot.float_type, chunk.source.tensor.dtype
        source = reader.read(chunk)
        try:
            encoders[kind].encode(source, dtype, out)
        except NotStorable as error:
            raise BadValue(bad_value(chunk, source, error.first)) from None
        largest, squares = meters[kind].measure(source, dtype, out)
        stored = model.raw(chunk.source.slot.name)
        begin = kind.nbytes(chunk.start)
        tally.add(chunk, out, stored[begin : begin + len(out)], largest, squares)

    began = time.monotonic()
    total = sum(chunk.read_bytes for chunk in chunks)
    crew = Crew(chunks, reader.ask, crew_size())
    crew.run(work, lambda: watch(State(tally.read, 0, total, crew.tensor)) if watch else None, 0.2)
    return time.monotonic() - began
