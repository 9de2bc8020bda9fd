"""Globs over paths with `/`: `*`, `?` and `[...]` stay in one folder, a `**` between slashes crosses any number.

They mean what the agent finds by Python's own glob (`remote/gpuplan_agent/files.py`; a test compares), but for one
thing: a name that begins with a dot is like any other here, because what a result depends on may be hidden.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache

ACROSS = "**"
MOST = 16384  # answers that are remembered: every step of a plan asks of the same files


@lru_cache(MOST)
def matches(path: str, glob: str) -> bool:
    """Whether the whole path matches the glob. A glob without wildcards matches itself and, as a folder, all below."""
    names = path.split("/")
    plain = not any(character in glob for character in "*?[")
    pieces = (glob.rstrip("/") if plain else glob).removeprefix("./").split("/")
    if pieces[-1] == ACROSS:
        pieces.append("*")  # what a glob names is a file in the end
    reached = {0}  # how many names the pieces so far may have used up
    for piece in pieces:
        if piece == ACROSS:
            reached = set(range(min(reached, default=len(names) + 1), len(names) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(names) and fnmatchcase(names[at], piece)}
    return bool(reached) if plain else len(names) in reached


def may_meet(glob: str, other: str) -> bool:
    """Whether one path could match both: what stands before their first wildcards does not contradict."""
    one, two = (re.split(r"[*?\[]", text.removeprefix("./"), maxsplit=1)[0] for text in (glob, other))
    return one.startswith(two) or two.startswith(one)
