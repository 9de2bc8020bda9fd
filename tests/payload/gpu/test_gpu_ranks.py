"""Several ranks on cards: which card each takes, and that their slices add up to one rank's results."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from dllama_glm.parallel.cards import Seat, seated
from dllama_glm.runtime.device import Device
from dllama_glm.runtime.evidence import gpus_used

from tests.payload.gpu.gpu_models import MOE, RandomTensors, device, model_of, reference


def test_the_plan_s_three_ranks_take_two_cards_in_turns():
    """A root and two workers on a node with two cards: the third shares the first, so sums go through the host."""
    seating = seated([("node", 2)] * 3)
    assert seating.seats == (Seat(0, 2), Seat(1, 1), Seat(0, 2))
    assert not seating.on_cards
    used = [gpus_used({"card": seat.card, "sharers": seat.sharers}) for seat in seating.seats if seat]
    assert sum(used) == 2


@pytest.mark.parametrize(
    ("ranks", "expected", "on_cards"),
    [
        ([("a", 1)], [0], True),
        ([("a", 4)] * 4, [0, 1, 2, 3], True),
        ([("a", 2), ("b", 2)], [0, 0], True),
        ([("a", 1), ("b", 0)], [0, None], False),
        ([("a", 0), ("a", 0)], [None, None], False),
    ],
)
def test_every_host_deals_out_its_own_cards(ranks: list[tuple[str, int]], expected: list[int | None], on_cards: bool):
    """Cards are counted on their host; sums stay on them where every rank has one of its own."""
    seating = seated(ranks)
    assert [seat.card if seat else None for seat in seating.seats] == expected
    assert seating.on_cards is on_cards


class Turns:
    """Ranks that are threads: one runs at a time, until all come to a sum, since there is one interpreter only."""

    def __init__(self, ranks: int) -> None:
        self.running = threading.Lock()
        self.barrier = threading.Barrier(ranks, timeout=120)
        self.parts: list[np.ndarray | None] = [None] * ranks
        self.sizes: list[int] = []  # of rank 0's sums, in bytes


class TurnGroup:
    """Implements `device.Group` for one of them."""

    def __init__(self, turns: Turns, rank: int) -> None:
        self.rank, self.ranks, self._turns = rank, len(turns.parts), turns

    def _together(self, x: np.ndarray) -> list[np.ndarray]:
        self._turns.parts[self.rank] = x
        self._turns.running.release()
        self._turns.barrier.wait()
        parts = [part.copy() for part in self._turns.parts if part is not None]
        self._turns.barrier.wait()
        self._turns.running.acquire()
        return parts

    def sum(self, x: np.ndarray) -> np.ndarray:
        if self.rank == 0:
            self._turns.sizes.append(x.nbytes)
        return np.asarray(np.sum(self._together(x), axis=0, dtype=np.float32))

    def best(self, columns: np.ndarray, first: int) -> int:
        raise AssertionError("only logits are asked for")

    def join_columns(self, x: np.ndarray) -> np.ndarray | None:
        parts = self._together(x)
        return None if self.rank else np.concatenate(parts, axis=1)


def test_uneven_slices_add_up_to_one_rank():
    """Four ranks for three blocks of an expert, and more ranks than KV heads: a prompt, and a token behind it."""
    sparse = replace(MOE, layers=1, first_dense_layers=0)
    turns = Turns(4)
    found: list[list[np.ndarray | None]] = [[] for _ in range(4)]

    def run(rank: int) -> None:
        with turns.running:
            group = TurnGroup(turns, rank)
            model = model_of(sparse, device(sparse, group, exact=True), group)
            found[rank] = [model.forward([5, 6], 0), model.forward([7], 2)]

    threads = [threading.Thread(target=run, args=[rank]) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plain = model_of(sparse, reference(sparse))
    for got, expected in zip(found[0], [plain.forward([5, 6], 0), plain.forward([7], 2)], strict=True):
        assert got is not None
        assert expected is not None
        assert np.abs(got - expected).max() < 1e-4
    assert found[1:] == [[None, None]] * 3
    assert turns.sizes == [2 * 4 * MOE.dim] * 2 + [4 * MOE.dim] * 2  # a sum behind each half layer


def test_a_slow_network_costs_a_delay_for_each_half_layer():
    """What docs/gpu-budget.md computes: 92 sums of 16 KB a token; with a delay at each, so much longer."""
    from dllama_glm.devices.reference import ReferenceDevice
    from dllama_glm.parallel.group import SingleGroup
    from dllama_glm.parallel.shard import shard
    from dllama_glm.runtime import weights

    class Slow(SingleGroup):
        """A group behind a network: each sum takes its delay, and the bytes' time, on a clock of its own."""

        seconds = 0.0

        def sum(self, x: np.ndarray) -> np.ndarray:
            self.seconds += 2 * 0.001 + 2 * x.nbytes / 12.5e6
            return x

    group, part = Slow(), shard(MOE, 0, 1)
    kept = weights.load(RandomTensors(MOE), MOE, part)
    made = cast("Device", ReferenceDevice(kept, MOE, part, group, 4))  # all but `described`, which is the class's
    model_of(MOE, made).forward([1], 0)
    assert group.seconds == pytest.approx(2 * MOE.layers * (0.002 + 2 * 4 * MOE.dim / 12.5e6))
    page = (Path(__file__).resolve().parents[3] / "docs" / "gpu-budget.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if "100 Mbit/s, 1 ms" in line)
    token = 92 * (0.002 + 2 * 4 * 4096 / 12.5e6)
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["4.6 ms", f"{token:.2f} s", f"{1 / token:.1f} tokens/s"]
