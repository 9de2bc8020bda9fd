"""Globs over paths with `/`: `*` stays in one folder, `**` crosses any number of them, `?`, `[...]` as in a shell."""

from __future__ import annotations

import re
from functools import lru_cache


def matches(path: str, glob: str) -> bool:
    """Whether the whole path matches the glob. A glob without wildcards matches itself and, as a folder, all below."""
    return _compiled(glob).fullmatch(path) is not None


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    glob = glob.removeprefix("./").rstrip("/")
    text, at = "", 0
    while at < len(glob):
        piece, at = _piece(glob, at)
        text += piece
    below = "" if re.search(r"[*?\[]", glob) else "(/.*)?"
    return re.compile(text + below, re.DOTALL)


def _piece(glob: str, at: int) -> tuple[str, int]:
    """The pattern of the glob's next element, and where the one after it begins."""
    if glob.startswith("**/", at):
        return "(?:.*/)?", at + 3
    if glob.startswith("**", at):
        return ".*", at + 2
    if glob[at] == "*":
        return "[^/]*", at + 1
    if glob[at] == "?":
        return "[^/]", at + 1
    end = glob.find("]", at + 2) if glob[at] == "[" else -1
    if end > 0:
        inside = glob[at + 1 : end].replace("\\", r"\\").replace("[", r"\[")
        return f"[{'^' + inside[1:] if inside[0] in '!^' else inside}]", end + 1
    return re.escape(glob[at]), at + 1
