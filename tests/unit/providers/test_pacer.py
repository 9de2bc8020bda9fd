"""One key, one pace, whichever process sends."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.providers.http import RateLimited
from orchestrator.providers.pacer import PATIENCE_S, Pacer

INTERVALS = {"any": 1.0, "launch": 12.0}
SCALE = 0.02  # an interval of 20 ms

SENDER = """
import sys, time
from pathlib import Path
from orchestrator.providers.pacer import Pacer
pacer = Pacer({"any": 1.0, "launch": 12.0}, Path(sys.argv[1]), 0.02)
for _ in range(5):
    pacer.call(lambda: print(time.time()))
"""


def moments(pacer: Pacer, kinds: list[str]) -> list[float]:
    sent: list[float] = []
    for kind in kinds:
        pacer.call(lambda: sent.append(time.monotonic()), kind)
    return sent


def test_calls_are_spaced(tmp_path: Path):
    """Requests are one interval apart, launches twelve."""
    sent = moments(Pacer(INTERVALS, tmp_path / "pace", SCALE), ["any", "any", "launch", "launch"])
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert min(gaps) >= SCALE * 0.95
    assert gaps[2] >= 12 * SCALE * 0.95


def test_processes_share_one_pace(tmp_path: Path):
    """Two processes with one file send no closer together than one."""
    command = [sys.executable, "-c", SENDER, str(tmp_path / "folder" / "pace")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [line for process in both for line in process.communicate(timeout=60)[0].split()]
    sent = sorted(map(float, lines))
    assert len(sent) == 10
    assert sent[-1] - sent[0] >= 9 * SCALE * 0.95


def test_a_broken_file_is_a_new_one(tmp_path: Path):
    """What cannot be read, or lies hours ahead, delays nobody."""
    for text in ("not json", "[1]", f'{{"any": {time.time() + 10**6}}}'):
        (tmp_path / "pace").write_text(text)
        began = time.monotonic()
        moments(Pacer(INTERVALS, tmp_path / "pace", SCALE), ["any"])
        assert time.monotonic() - began < 5


def test_a_429_holds_everybody_off_and_is_sent_again():
    """The pause that the vendor asks for is kept before the next try."""
    pacer, sent = Pacer(INTERVALS, None, SCALE), []

    def send() -> str:
        sent.append(time.monotonic())
        if len(sent) == 1:
            raise RateLimited("slow down", retry_after=5.0)
        return "done"

    assert pacer.call(send) == "done"
    assert sent[1] - sent[0] >= 5 * SCALE * 0.95


def test_patience_ends():
    """429s without end are raised after a bounded number of tries."""
    tries = []

    def send() -> None:
        tries.append(1)
        raise RateLimited("slow down", retry_after=PATIENCE_S / 3)

    with pytest.raises(RateLimited):
        Pacer(INTERVALS, None, 0.001).call(send)
    assert len(tries) == 4
