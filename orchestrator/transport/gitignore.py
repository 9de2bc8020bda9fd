"""The rules of one .gitignore, as git reads them (a test compares). No pattern can make matching slow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ACROSS = None  # a piece that stands for any number of folders: **
NOTHING = "(?!)"
CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \t", "cntrl": "\x00-\x1f\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~", "space": " \t-\r", "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}  # fmt: skip
_ESCAPED_SPACE = re.compile(r"(?<!\\)((?:\\\\)*) +$")
_BRACKET = re.compile(r"\[(?P<not>[!^]?)(?P<inside>\]?(?:\[:\w+:\]|\\.|[^\]\\])*)\]", re.DOTALL)
_WORD = re.compile(rf"{_BRACKET.pattern}|\\.|.", re.DOTALL)
_MEMBER = re.compile(r"\[:(?P<name>\w+):\]|\\?(?P<first>.)(?:-\\?(?P<last>[^\]]))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Rule:
    """One line: names of folders and of the file, each a pattern. `anywhere`: it is about a name in any folder."""

    pieces: tuple[re.Pattern[str] | None, ...]
    ignores: bool
    folders_only: bool
    anywhere: bool

    def matches(self, names: Sequence[str], *, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        names = names[-1:] if self.anywhere else names
        reached = {0}  # how many names the pieces so far may have used up
        for piece in self.pieces:
            if piece is ACROSS:
                reached = set(range(min(reached, default=len(names) + 1), len(names) + 1))
            else:
                reached = {at + 1 for at in reached if at < len(names) and piece.fullmatch(names[at])}
        return len(names) in reached


class Ignored:
    """What one .gitignore says of paths below its folder."""

    def __init__(self, text: str) -> None:
        lines = text.removeprefix("\ufeff").split("\n")
        self._rules = [rule for line in lines if (rule := _rule(line.removesuffix("\r")))]

    def says(self, path: str, *, is_folder: bool) -> bool | None:
        """Whether the path (relative to its folder) is ignored; None: it says nothing of it. The last rule wins."""
        names = path.split("/")
        return next((r.ignores for r in reversed(self._rules) if r.matches(names, is_folder=is_folder)), None)


def _rule(line: str) -> _Rule | None:
    """What a line means; None: nothing."""
    if line.startswith("#"):
        return None
    text = _ESCAPED_SPACE.sub(r"\1", line)
    pattern = text.removeprefix("!")
    names = pattern.removesuffix("/")
    if not names:
        return None
    anywhere = "/" not in names
    pieces = [ACROSS if piece == "**" and not anywhere else re.compile(_piece(piece)) for piece in _split(names)]
    if pieces[-1] is ACROSS:  # what is in the folder, and not the folder
        pieces.append(re.compile(".+", re.DOTALL))
    return _Rule(tuple(pieces), ignores=pattern == text, folders_only=pattern != names, anywhere=anywhere)


def _split(names: str) -> list[str]:
    """The pieces between the slashes; one in brackets or behind a backslash is none of these."""
    pieces = [""]
    for word in _WORD.finditer(names.removeprefix("/")):
        if word[0] == "/":
            pieces.append("")
        else:
            pieces[-1] += word[0]
    return pieces


def _piece(text: str) -> str:
    """A regular expression for the name of one file or folder. What a star has taken is never tried again."""
    chunks, at = [""], 0
    while at < len(text):
        bracket = _BRACKET.match(text, at)
        if text[at] == "*":
            chunks.append("")
        elif text[at] == "?":
            chunks[-1] += "."
        elif bracket:
            chunks[-1] += _one_of(bracket["inside"], negated=bool(bracket["not"]))
            at = bracket.end() - 1
        elif text[at] == "[" or text[at:] == "\\":
            return NOTHING
        else:
            at += text[at] == "\\"
            chunks[-1] += re.escape(text[at])
        at += 1
    first, *middle = chunks
    last = f".*{middle.pop()}" if middle else ""
    return f"(?s:{first}{''.join(f'(?>.*?{chunk})' for chunk in middle if chunk)}{last})"


def _one_of(inside: str, *, negated: bool) -> str:
    """One character out of a bracket's."""
    members = ""
    for member in _MEMBER.finditer(inside):
        if name := member["name"]:
            if name not in CLASSES:
                return NOTHING
            members += CLASSES[name]
        else:
            first, last = member["first"], member["last"] or member["first"]
            members += f"{re.escape(first)}-{re.escape(last)}" if first <= last else re.escape(first)
    if not members:
        return "." if negated else NOTHING
    return f"[{'^' if negated else ''}{members}]"
