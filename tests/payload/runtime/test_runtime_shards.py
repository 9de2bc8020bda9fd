"""Any number of ranks computes what one computes: every split that is allowed, in one process."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from dllama_glm.devices.cpu import CpuDevice
from dllama_glm.devices.reference import ReferenceDevice
from dllama_glm.formats.model_file import FloatType
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.parallel.shard import largest_rank_count, shard
from dllama_glm.runtime import weights
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import Device
from dllama_glm.runtime.loader import load_model
from dllama_glm.runtime.model import Model
from dllama_glm.runtime.source import FileTensors, read_architecture

from tests.payload.runtime.runtime_files import write_case

IDS = np.random.default_rng(5).integers(0, 160, 9).tolist()
REFERENCE = cast("Callable[..., Device]", ReferenceDevice)  # all but `described`, which is the class's


class Meeting:
    """Where ranks that are threads put their parts together."""

    def __init__(self, ranks: int) -> None:
        self.parts: list[np.ndarray | None] = [None] * ranks
        self.sums = self.gathered = 0
        self.barrier = threading.Barrier(ranks, timeout=60)


class ThreadGroup:
    """Implements `model.Group` for one thread of a meeting."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.rank = rank
        self.ranks = len(meeting.parts)
        self.meeting = meeting

    def _together(self, x: np.ndarray) -> list[np.ndarray]:
        self.meeting.parts[self.rank] = x
        self.meeting.barrier.wait()
        parts = [part.copy() for part in self.meeting.parts]
        self.meeting.barrier.wait()
        return parts

    def sum(self, x: np.ndarray) -> np.ndarray:
        self.meeting.sums += self.rank == 0
        return np.asarray(np.sum(self._together(x), axis=0, dtype=np.float32))

    def best(self, columns: np.ndarray, first: int) -> int:
        found = self._together(np.array([columns.max(), -(first + columns.argmax())], np.float64))
        return int(-max(map(tuple, found))[1])

    def join_columns(self, x: np.ndarray) -> np.ndarray | None:
        parts = self._together(x)
        self.meeting.gathered += self.rank == 0
        return None if self.rank else np.concatenate(parts, axis=1)


def on_ranks(
    path: Path, architecture: Architecture, ranks: int, make: Callable[..., Device] = REFERENCE
) -> list[np.ndarray | None]:
    """Run a prompt and one more token on every rank; return what each rank's last pass returns."""
    meeting = Meeting(ranks)
    found: list[np.ndarray | None] = [np.empty(0)] * ranks

    def run(rank: int) -> None:
        part = shard(architecture, rank, ranks)
        kept = weights.load(FileTensors(path), architecture, part)
        group = ThreadGroup(meeting, rank)
        device = make(kept, architecture, part, group, len(IDS))
        model = Model(architecture, device, group, first=part.vocab.start, capacity=len(IDS))
        model.forward(IDS[:-1], 0)
        found[rank] = model.forward(IDS[-1:], len(IDS) - 1)

    threads = [threading.Thread(target=run, args=[rank]) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("name", ["glm4_moe-grouped", "glm4_moe-two-shared", "glm4", "qwen3_moe", "llama-odd-heads"])
def test_every_split_gives_the_logits_of_one_rank(name: str, tmp_path: Path):
    """Two ranks up to the most that can share the heads (more than KV heads, and than blocks of an expert)."""
    path, _ = write_case(name, tmp_path)
    architecture = read_architecture(path)
    expected = load_model(path, architecture, SingleGroup(), threads=1, exact=True).forward(IDS, 0)
    most = largest_rank_count(architecture)
    assert most > architecture.kv_heads or name == "llama-odd-heads"
    for ranks in range(2, most + 1):
        first, *others = on_ranks(path, architecture, ranks)
        assert first is not None
        assert np.abs(first - expected).max() < 1e-4
        assert others == [None] * (ranks - 1)


@pytest.mark.parametrize("float_type", [FloatType.Q40, FloatType.Q80], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["glm4_moe-grouped", "qwen3_moe", "glm4"])
def test_uneven_ranks_of_stored_blocks_give_what_the_reference_gives(name: str, float_type: FloatType, tmp_path: Path):
    """With more ranks than an expert has blocks some keep none of it: reference and CPU give one rank's logits."""
    path, _ = write_case(name, tmp_path, float_type)
    architecture = read_architecture(path)
    expected = load_model(path, architecture, SingleGroup(), threads=1, exact=True).forward(IDS, 0)
    ranks = largest_rank_count(architecture)
    widths = [len(shard(architecture, rank, ranks).expert) for rank in range(ranks)]
    assert name == "glm4" or min(widths) == 0 < max(widths)
    makers: tuple[Callable[..., Device], ...] = (REFERENCE, partial(CpuDevice, exact=True))
    for make in makers:
        first = on_ranks(path, architecture, ranks, make)[0]
        assert first is not None
        assert np.abs(first - expected).max() < 1e-4


def test_one_to_five_ranks_make_the_same_tokens(converted: Path):
    """Greedily from Q40, as users run it: any split's tokens; two sums a layer and no gathered vocabulary."""
    path = converted / "intellect3.m"
    architecture = read_architecture(path)
    texts = []
    for ranks in range(1, 6):
        meeting = Meeting(ranks)
        found: list[list[int]] = [[] for _ in range(ranks)]

        def run(rank: int, meeting: Meeting = meeting, found: list[list[int]] = found) -> None:
            model = load_model(path, architecture, ThreadGroup(meeting, rank), threads=1, max_seq_len=32)
            ids = list(IDS)
            for _ in range(12):
                token = model.greedy(ids, len(IDS) + len(found[rank]) - len(ids))
                found[rank].append(token)
                ids = [token]

        threads = [threading.Thread(target=run, args=[rank]) for rank in range(ranks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [found[0]] * ranks
        assert (meeting.sums, meeting.gathered) == (0 if ranks == 1 else 12 * 2 * architecture.layers, 0)
        texts.append(found[0])
    assert texts == [texts[0]] * 5
