"""What a machine prints, on its way to a person's terminal."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.report.console import event_lines, is_live, one_line
from orchestrator.words.outside import escape

_SEEDS = ["\x1b", "\x1b[", "[31m", "\x1b[2J", "\x9b", "\x1b]0;title", "\x07", "\x1b\\", "\r", "\n", "\x1bP", "m"]
_HOSTILE = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(_SEEDS),
        st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]),
    )
).map("".join)


@given(_HOSTILE)
@settings(max_examples=1000, deadline=None, database=None)
def test_nothing_that_commands_a_terminal_survives(text: str) -> None:
    """Whatever the text, no control character but tab and line feed is left, and nothing that turns text around."""
    safe = escape(text)
    assert not [c for c in safe if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} and c not in "\t\n"]
    assert not set(safe) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    safe.encode()  # no half of a surrogate pair: it can be printed


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])))
@settings(max_examples=300, deadline=None, database=None)
def test_ordinary_text_is_unchanged(text: str) -> None:
    """Letters, marks, symbols and spaces of any script pass as they are, and so do tabs and line feeds."""
    assert escape(text) == text
    assert escape(f"a\t{text}\nb") == f"a\t{text}\nb"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1bPdevice\x1b\\x", "x"),
        ("\x1b(Bx\x1b=y\x1bMz\x1b7", "xyz"),
        ("\x1b]0;never ended", "\\x1b]0;never ended"),
        ("\x1b\x1b[m[31mtwice", "\\x1b[31mtwice"),
        ("bell\x07 back\x08 del\x7f", "bell\\x07 back\\x08 del\\x7f"),
        ("line\r\nline", "line\nline"),
        ("over\rwritten", "over\\x0dwritten"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("half\ud800", "half\\ud800"),
        ("[bold]markup[/bold]", "[bold]markup[/bold]"),
    ],
)
def test_each_kind_of_danger(text: str, safe: str) -> None:
    """Looks are dropped, what is left of control characters is shown by its number, text stays text."""
    assert escape(text) == safe


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("10 %\r20 %\r30 %", "30 %"),
        ("10 %\r20 %\r", "20 %"),
        ("first\nsecond\n\n", "second"),
        ("a\tb", "a   b"),
        ("\x1b[32m  ok \x1b[0m\r\n", "ok"),
        ("\r\n", ""),
        ("", ""),
    ],
)
def test_one_line_is_the_newest_state(text: str, line: str) -> None:
    """Of a progress bar the last drawing is kept, of several lines the last one with text."""
    assert one_line(text) == line


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "live"),
    [
        (_Terminal(), {"TERM": "xterm"}, True),
        (_Terminal(), {"TERM": "dumb"}, False),
        (_Terminal(), {"TERM": "xterm", "CI": "true"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_only_a_terminal_is_redrawn(
    stream: io.StringIO, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, *, live: bool
) -> None:
    """A pipe, a dumb terminal and a CI job get plain lines."""
    for name in ("TERM", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_live(stream) is live


def test_an_event_of_several_lines_is_shown_from_its_first_one_on():
    """What happened comes first; what was said of it follows below, each line escaped, empty ones left out."""
    text = "only: failed: make: exit code 1\nTraceback\n\n\x1b[31mdisk full\r50 %\n"
    assert event_lines(text) == ["only: failed: make: exit code 1", "  Traceback", "  disk full", "  50 %"]
    assert event_lines("") == [""]
