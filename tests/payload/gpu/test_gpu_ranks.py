"""Several ranks on cards: which card each takes, and that their slices add up to one rank's results."""

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from dllama_glm.cli.ranks import Formation
from dllama_glm.devices.cuda import CudaDevice
from dllama_glm.devices.host_sums import HostSums
from dllama_glm.devices.reference import ReferenceDevice
from dllama_glm.parallel.cards import Seat, seated
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.parallel.shard import shard
from dllama_glm.runtime import weights
from dllama_glm.runtime.device import Device, Group
from dllama_glm.runtime.evidence import gpus_used, where

from tests.payload.gpu.gpu_models import CARD, MOE, TILES, RandomTensors, device, model_of, reference

WIDE = replace(MOE, layers=1, heads=3, kv_heads=3)


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


def test_ranks_on_one_card_sum_through_one_page_locked_room(monkeypatch: pytest.MonkeyPatch):
    """Its memory is taken once, for the largest, locked where there is a card; the sum comes back in place."""
    asked: list[dict[str, object]] = []
    places: list[int] = []
    empty = torch.empty

    def noting(size: int, **how: Any) -> torch.Tensor:
        asked.append(how)
        return empty(size, dtype=how.get("dtype"))

    class Twice(SingleGroup):
        def sum(self, x: np.ndarray) -> np.ndarray:
            places.append(x.ctypes.data)
            x *= 2
            return x

    monkeypatch.setattr(torch, "empty", noting)
    sums = HostSums(Twice(), torch.device("cuda", 0))
    asked.clear()
    for size in (6, 4):
        part = torch.arange(float(size)).reshape(2, -1)
        assert sums.sum(part) is part
        assert part.flatten().tolist() == [2.0 * number for number in range(size)]
    assert asked == [{"dtype": torch.float32, "pin_memory": True}]
    assert len(set(places)) == 1


def test_the_shipped_plan_s_ranks_say_how_they_sum():
    """Its three ranks on its two cards: no graph, gloo, and the card's sharers in `--json`; two cards are used."""
    plan = yaml.safe_load((Path(__file__).resolve().parents[3] / "phases" / "day6-7.yaml").read_text(encoding="utf-8"))
    (command,) = (step["run"] for step in plan["steps"] if step["name"] == "infer-single-node")
    workers = command.partition("--workers ")[2].split()[0].split(",")
    seating = seated([("node", plan["machine"]["count"])] * (len(workers) + 1))
    assert [seat and seat.card for seat in seating.seats] == [0, 1, 0]
    told = []
    for rank, seat in enumerate(seating.seats):
        assert seat is not None
        group = cast("Group", SimpleNamespace(rank=rank, ranks=3, on_card=seating.on_cards))
        card = replace(CARD, index=seat.card, sharers=seat.sharers)
        kept = weights.load(RandomTensors(WIDE), WIDE, shard(WIDE, rank, 3))
        told.append(CudaDevice(kept, WIDE, shard(WIDE, rank, 3), group, 4, card=card, tiles=TILES).described)
    assert [(one["sums"], one["graph"], one["card"], one["sharers"]) for one in told] == [
        ("gloo", False, 0, 2), ("gloo", False, 1, 1), ("gloo", False, 0, 2),
    ]  # fmt: skip
    assert "shared by 2 ranks, int8, no graph" in where(told[0]).measured_on
    formation = Formation(3, 1, round(sum(map(gpus_used, told))), 4, told[0])
    document = formation.as_dict()
    assert (document["ranks"], document["gpus_used"], document["runtime"]["sums"]) == (3, 2, "gloo")


def test_a_slow_network_costs_a_delay_for_each_half_layer():
    """What docs/gpu-budget.md computes: 92 sums of 16 KB a token; with a delay at each, so much longer."""

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
