"""The even line that the ledger counts in, and the owner of a home: each made once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.world.clock import SystemClock, Timeline
from orchestrator.world.home import Home


class Clocks:
    """A wall clock that somebody sets, and one that only goes on."""

    wall, monotonic = 1_800_000_000.0, 500.0

    def timeline(self, file: Path | None = None) -> Timeline:
        return Timeline(lambda: self.wall, lambda: self.monotonic, file)


@pytest.mark.parametrize("jump", [10_800.0, -10_800.0])
def test_a_wall_clock_that_is_set_does_not_move_the_line(jump: float):
    """Sixty seconds are sixty seconds, whatever the wall clock says."""
    clocks = Clocks()
    line = clocks.timeline()
    assert line() == 1_800_000_000.0
    clocks.wall += jump
    clocks.monotonic += 60
    assert line() == 1_800_000_060.0


def test_all_processes_of_a_boot_are_on_one_line(tmp_path: Path):
    """One that begins after the jump counts on as the first does; anchored anew, the next ones follow the wall."""
    clocks = Clocks()
    first = clocks.timeline(tmp_path / "timeline")
    clocks.wall += 10_800
    if not Path("/proc/sys/kernel/random/boot_id").exists():
        pytest.skip("this system does not say which boot it is")
    second = clocks.timeline(tmp_path / "timeline")
    assert second() == first() == 1_800_000_000.0
    second.anchor()
    assert clocks.timeline(tmp_path / "timeline")() == 1_800_010_800.0


@pytest.mark.parametrize("text", ["", "another-boot 7.0", "half", "a b c"])
def test_an_anchor_of_another_boot_or_half_of_one_does_not_count(tmp_path: Path, text: str):
    """The monotonic clock began anew with the boot: so does the line."""
    (tmp_path / "timeline").write_text(text)
    assert Clocks().timeline(tmp_path / "timeline")() == 1_800_000_000.0


def test_the_clock_shows_the_line_and_the_wall():
    """`now` is what is written down; `wall` is what other computers' clocks are compared with."""
    clocks = Clocks()
    clocks.wall = 0.0
    clock = SystemClock(1.0, clocks.timeline())
    assert clock.now().timestamp() == 0.0
    assert clock.wall().timestamp() > 1_700_000_000


def test_many_that_begin_at_once_are_one_owner(tmp_path: Path):
    """Whoever is first has written the owner; all others read it, and nothing else is left in the folder."""
    for number in range(20):
        home = tmp_path / str(number)
        with ThreadPoolExecutor(8) as pool:
            owners = set(pool.map(lambda _: Home(home).owner(), range(8)))  # noqa: B023  used at once
        assert len(owners) == 1
        assert [p.name for p in home.iterdir() if p.is_file()] == ["owner"]
