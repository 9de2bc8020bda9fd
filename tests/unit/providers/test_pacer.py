"""One key, one pace, whichever process sends."""

from __future__ import annotations

import json
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
import sys
from pathlib import Path
from orchestrator.providers.pacer import Pacer
Pacer({"any": 1.0, "launch": 12.0}, Path(sys.argv[1]), 0.2).call(lambda: None, "launch")
"""


def moments(pacers: list[Pacer], kinds: list[str]) -> list[float]:
    """Seconds from before the first call to each call, by these pacers in turn."""
    sent: list[float] = []
    began = time.monotonic()
    for n, kind in enumerate(kinds):
        pacers[n % len(pacers)].call(lambda: sent.append(time.monotonic() - began), kind)
    return sent


def test_calls_are_spaced(tmp_path: Path):
    """Requests are one interval apart, launches twelve; each comes no earlier than it may."""
    sent = moments([Pacer(INTERVALS, tmp_path / "pace", SCALE)], ["any", "any", "launch", "any", "launch"])
    earliest = [0, 1, 2, 3, 14]
    assert all(at >= n * SCALE for at, n in zip(sent, earliest, strict=True))


def test_pacers_with_one_file_are_one(tmp_path: Path):
    """Two of them send no more often than one."""
    both = [Pacer(INTERVALS, tmp_path / "folder" / "pace", SCALE) for _ in range(2)]
    sent = moments(both, ["any"] * 10)
    assert all(at >= n * SCALE for n, at in enumerate(sent))


def test_another_process_is_waited_for(tmp_path: Path):
    """A launch of another process counts: this one's comes when that one's interval is over."""
    file = tmp_path / "pace"
    subprocess.run([sys.executable, "-c", SENDER, str(file)], check=True, timeout=60)
    free = json.loads(file.read_text())["launch"]
    assert Pacer(INTERVALS, file, 0.2).call(time.time, "launch") >= free - 0.001


def test_a_broken_file_is_a_new_one(tmp_path: Path):
    """What cannot be read, or lies hours ahead, delays nobody."""
    for text in ("not json", "[1]", f'{{"any": {time.time() + 10**6}}}'):
        (tmp_path / "pace").write_text(text)
        began = time.monotonic()
        moments([Pacer(INTERVALS, tmp_path / "pace", SCALE)], ["any"])
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
