"""`make gpu` before a card is paid for: its whole course over a small model, and what it says where no card is."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gpu_bench
import gpu_report
import pytest
from dllama_glm.devices.tiles import PATH, tiles_for

from tests.payload.gpu.gpu_models import CARD, ON_CARD, TILES, TINY

SMALL = replace(TINY, layers=1, first_dense_layers=0, qk_norm=False)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> gpu_bench.Bench:
    """The bench of a card with little memory, over a model of one layer."""
    timed = gpu_bench.Bench._timed
    monkeypatch.setattr(gpu_bench.Bench, "_timed", lambda own, work, times: timed(own, work, min(times, 1)))
    monkeypatch.setattr(gpu_bench, "PROMPT", 9)
    monkeypatch.setattr(gpu_bench, "_LOADED", 1 << 20)
    monkeypatch.setattr(gpu_bench, "tiles_for", lambda _: dict(TILES))
    return gpu_bench.Bench(CARD, SMALL, positions=32)


@pytest.mark.skipif(ON_CARD, reason="there is a card here")
def test_without_a_card_it_says_so_in_one_line():
    """Exit code 1, why, no traceback, and no report that was not measured."""
    page = gpu_report.PAGE.read_bytes() if gpu_report.PAGE.exists() else None
    done = subprocess.run(
        [sys.executable, gpu_report.__file__], capture_output=True, text=True, timeout=120, check=False,
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"no measurement: The GPU cannot be used: .+\n", done.stdout)
    assert done.stderr == ""
    assert (gpu_report.PAGE.read_bytes() if gpu_report.PAGE.exists() else None) == page


def test_its_report_names_card_versions_and_share_of_the_limit(
    bench: gpu_bench.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each kernel and each figure once; a card whose peak is known gets its share of it."""
    bench.card = replace(CARD, name="NVIDIA H100 80GB HBM3")
    monkeypatch.chdir(tmp_path)
    text = bench.page("passed in 60 s: 60 passed", "570.86.15")
    assert "NVIDIA H100 80GB HBM3; driver 570.86.15, torch " in text
    assert "passed in 60 s: 60 passed" in text
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows[:3] == ["a token behind 16 others, one graph", "bytes that it reads", "a plain read"]
    assert [row.partition(",")[0] for row in rows[-6:]] == [
        "inputs",
        "attention",
        "output",
        "route",
        "expand",
        "contract",
    ]
    assert len(rows) == 13
    assert re.search(r"GB/s, \d+% of 3,350 GB/s \|", text)
    assert re.search(r"a plain read of it \| \d+\.\d\d; \d+\.\d\d GB/s \|", text)


def test_tuning_keeps_the_fastest_of_the_sizes_that_can_be_made(
    bench: gpu_bench.Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """What does not fit onto the card is passed over; the table is written as it stands in the tree."""
    times = {2: 3.0, 4: 1.0, 8: 2.0}

    def timed(_: object, __: int) -> float:
        if (warps := bench.tiles["route"]["warps"]) == 16:
            raise RuntimeError("out of resource: shared memory")
        return times[warps]

    monkeypatch.setattr(bench, "_timed", timed)
    assert bench.tune("route", {"warps": [2, 4, 8, 16]}) == {"warps": 4}
    assert bench.tiles["route"] == {"warps": 4}
    written = tmp_path / "tiles.json"
    written.write_bytes(PATH.read_bytes())
    monkeypatch.setattr(gpu_bench, "PATH", written)
    bench.tiles = tiles_for(CARD.capability)
    bench.keep_tiles()
    assert written.read_bytes() == PATH.read_bytes()


def test_every_kernel_of_the_table_is_tuned_with_its_own_sizes():
    """The sizes that are tried are those that the table has, and the table's own choice is among them."""
    for capability in (80, 90):
        table = tiles_for(capability)
        for name, choices in gpu_report.CANDIDATES.items():
            assert choices.keys() == table[name].keys()
            assert all(table[name][size] in values for size, values in choices.items()), name
