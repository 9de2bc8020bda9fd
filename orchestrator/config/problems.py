"""What is wrong in the user's files: collected, sorted and told all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

from orchestrator.words.errors import ConfigError

KeyPath = tuple[str | int, ...]  # the keys, and numbers of list items from 0 on, that lead to a part of a document


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """A spot in a file, counted from 1; line 0: the thing has no line (an environment variable, a flag, a folder)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


class ConfigErrors(ConfigError):
    """All mistakes found, in the order of files and lines. `errors` holds each one; the text lists them all."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))
        self.where = self.errors[0].where


@dataclass
class Problems:
    """Collects mistakes, so that a file is read to its end before anything is told."""

    found: set[tuple[Place, str, str]] = field(default_factory=set)

    def add(self, place: Place, message: str, remedy: str = "") -> None:
        """Note one mistake. The same one at the same place is kept once."""
        self.found.add((place, message, remedy))

    def raise_all(self) -> None:
        """Raise ConfigErrors if anything was noted."""
        if self.found:
            raise ConfigErrors(
                ConfigError(message, where=str(place), remedy=remedy) for place, message, remedy in sorted(self.found)
            )


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a remedy that names the known word closest to `word`, or all of them when none is close."""
    words = sorted(known)
    folded = {w.lower(): w for w in words}
    close = get_close_matches(word.lower(), folded, n=1, cutoff=0.5)
    if close:
        return f"did you mean {folded[close[0]]}?"
    return f"known here: {', '.join(words)}" if words else ""


def shortened(text: str, longest: int = 60) -> str:
    """Return the text for a message: on one line, and with its length where it is too long to be shown."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest // 2]}... ({len(text):,} characters)"
