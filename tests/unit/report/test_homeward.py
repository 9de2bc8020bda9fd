"""Files on their way home: a line a minute through a pipe, a bar at a terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.report.homeward import Homeward, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Coming(Homeward):
    """Two files, of which one is whole and half of the other has come, 100 s after their beginning."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.at = datetime(2026, 11, 29, tzinfo=UTC)
        super().__init__({"a.m": 1_000_000_000, "b.m": 3_000_000_000}, self.said.append, lambda: self.at)
        self.at += timedelta(seconds=100)
        self.whole("a.m")
        self.arrived("b.m", 1_500_000_000, 1_500_000_000)


def test_a_minute_has_one_line():
    """With files, bytes, rate and time left; what was here before counts as come, and not into the rate."""
    coming = Coming()
    coming.once_a_minute()
    coming.once_a_minute()
    assert coming.said == ["fetching home: 1 of 2 files, 2.5 GB of 4.0 GB, 15 MB/s, 1m 40s left"]
    coming.at += timedelta(seconds=61)
    coming.once_a_minute()
    assert len(coming.said) == 2
    coming.whole("b.m")
    assert coming.words() == "fetched home: 2 files, 4.0 GB in 2m 41s (9.3 MB/s)"


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch):
    """Lines of files stand above it, escaped; it is gone when all is said."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    coming, out = Coming(), Terminal()
    with shown(coming, out):
        coming.say("a.m\x07  fetched")
    text = out.getvalue()
    assert "━" in text
    assert "1 of 2 files, 2.5 GB of 4.0 GB, 15 MB/s, 1m 40s left" in text
    assert "a.m\\x07  fetched\n" in text
    assert text.rindex("a.m") < text.rindex("━")
    assert coming.said == []
