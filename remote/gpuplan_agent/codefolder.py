"""The user's code on this machine's own disk: exactly what was sent, or nothing."""

from __future__ import annotations

import os
import shutil
import stat
from typing import Any, Iterator

from gpuplan_agent.places import home
from gpuplan_agent.wire import AgentError

HASH_CHARS = 32


def folder(digest: str) -> str:
    """Where the code of that hash lies."""
    if len(digest) != HASH_CHARS or not set(digest) <= set("0123456789abcdef"):
        raise AgentError("bad_request", f"{digest!r} is no hash of code")
    return os.path.join(home(), "code", digest)


def op_code(request: dict[str, Any]) -> dict[str, Any]:
    """The folder of the code of that hash; "" when it is not there. One that holds anything else is removed.

    `kept`: what a setup has made of it since is left alone.
    """
    place = folder(request["code"])
    if not os.path.isdir(place):
        return {"folder": ""}
    if not request["kept"] and hash_of(place) != request["code"]:
        shutil.rmtree(place)
        return {"folder": ""}
    return {"folder": place}


def hash_of(place: str) -> str:
    """The hash of all that lies in a folder, as its sender computes it; "": there is more than files and folders."""
    import hashlib

    from gpuplan_agent.hashing import sha256_of

    lines = []
    for path in _below(place):
        status = os.lstat(os.path.join(place, path))
        if not stat.S_ISREG(status.st_mode):
            return ""
        digest = sha256_of(os.path.join(place, path))
        lines.append((path, f"{digest} {'x' if status.st_mode & stat.S_IXUSR else '-'} {path}\n"))
    text = "".join(line for _, line in sorted(lines))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:HASH_CHARS]


def _below(place: str) -> Iterator[str]:
    """Everything below a folder but folders: a link is none."""
    for top, folders, files in os.walk(place):
        for name in [*files, *(f for f in folders if os.path.islink(os.path.join(top, f)))]:
            yield os.path.relpath(os.path.join(top, name), place)
