"""What a machine prints, made safe for the terminal of the person who reads it."""

from __future__ import annotations

import re
import select
import sys
import time
from collections.abc import Callable
from typing import IO, TextIO

ANSWER_WITHIN_S = 600.0  # a machine may cost money while nobody answers

# Complete control sequences say how a text looks, not what it says: they go. CSI; OSC, DCS and their kin with their
# terminator; all other escapes.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
# What is left of control characters is shown by its number: C0 without tab and line feed, DEL, C1, the characters that
# turn the direction of text around or are invisible line ends, and halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def escape(text: str) -> str:
    r"""Return `text` without what could command a terminal; harmless text, tabs and line feeds stay as they are.

    Colours and cursor movements are dropped, other control characters become `\x07`, `\u202e` and the like, and a
    line's CR LF becomes LF. The result never holds an escape character, whatever the text was.
    """
    return _UNSAFE.sub(_number, _SEQUENCES.sub("", text.replace("\r\n", "\n")))


def one_line(text: str) -> str:
    """Return the newest state of a line, escaped: what a progress bar drew last over itself, tabs as spaces."""
    newest = next((part for part in reversed(re.split(r"[\r\n]", text)) if part.strip()), "")
    return escape(newest).expandtabs(4).strip()


def event_lines(text: str) -> list[str]:
    """The lines of an event, escaped: what happened first, then what was said of it, below it."""
    first, *more = [line for part in text.splitlines() if (line := one_line(part))] or [""]
    return [first, *(f"  {line}" for line in more)]


def _number(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_live(stream: TextIO | None = None) -> bool:
    """Whether `stream` (None: standard output) is a terminal that a view may redraw."""
    import os

    stream = sys.stdout if stream is None else stream
    return stream.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"} and "CI" not in os.environ


def confirm(out: IO[str], question: str, given_up: Callable[[], bool]) -> bool:
    """Ask on `out` and read a line of standard input; True for y or yes.

    False for everything else: ten minutes without an answer too, or `given_up`, which is asked several times a second.
    """
    out.write(f"{escape(question)} [y/N]: ")
    out.flush()
    patience = time.monotonic() + ANSWER_WITHIN_S
    while not given_up() and time.monotonic() < patience:
        ready, _, _ = select.select([sys.stdin], [], [], 0.2)
        if ready:
            return sys.stdin.readline().strip().lower() in {"y", "yes"}
    out.write("\n")
    return False
