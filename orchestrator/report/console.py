"""The way to the terminal of the person who reads: what is written there is escaped and masked, whoever wrote it."""

from __future__ import annotations

import re
import select
import sys
import time
from collections.abc import Callable
from typing import IO, TextIO

from orchestrator.words.outside import escape
from orchestrator.words.secret import hide

ANSWER_WITHIN_S = 600.0  # a machine may cost money while nobody answers


def one_line(text: str) -> str:
    """Return the newest state of a line, escaped: what a progress bar drew last over itself, tabs as spaces."""
    newest = next((part for part in reversed(re.split(r"[\r\n]", text)) if part.strip()), "")
    return escape(newest).expandtabs(4).strip()


def indented(text: str) -> str:
    """Lines after the first are indented: none of a text that quotes others can pass for a line of ours."""
    return re.sub(r"\n(?! )", "\n  ", text)


def say(text: str = "", *, err: bool = False, flush: bool = True) -> None:
    """Write a line to standard output, or to standard error: the one way that plain text goes there."""
    out = sys.stderr if err else sys.stdout
    out.write(f"{escape(hide(text))}\n")
    if flush:
        out.flush()


def say_link(text: str) -> None:
    """Write a line with a link that lets in whoever has it: it is for who reads this, so nothing of it is masked."""
    sys.stdout.write(f"{escape(text)}\n")
    sys.stdout.flush()


def event_lines(text: str) -> list[str]:
    """The lines of an event, escaped: what happened first, then what was said of it, below it."""
    first, *more = [line for part in text.splitlines() if (line := one_line(part))] or [""]
    return [first, *(f"  {line}" for line in more)]


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
