"""Many files as one tar: laid out once, written down on the volume, and read in ranges from then on (tarball.py)."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from typing import Any

from gpuplan_agent import files
from gpuplan_agent.places import file_name, private, workspace, write_atomic
from gpuplan_agent.tarball import Member, Tar
from gpuplan_agent.wire import AgentError, emit

BEAT_S = 2.0
LOT = 1000  # members in one line of the answer


def op_pack(request: dict[str, Any]) -> dict[str, Any]:
    """Lay out a tar of the files below `folder` that match one of the globs, as op_files finds them.

    Lines say its members in their order (name below the workspace, size, SHA-256), the last one its size and SHA-256.
    It is called as the folder with `.tar`; `outside`: links that lead out of the workspace.
    """
    root, folder = workspace(request), request["folder"]
    outside: set[str] = set()
    real, below = os.path.realpath(root), os.path.join(root, folder, "")
    found = {path for pattern in request["patterns"] for path in files.matching(root, pattern, real, outside)}
    members = _members(root, folder, sorted(path for path in found if path.startswith(below)))
    name = f"{folder}.tar"
    tar, before = Tar(members), _written(request, name)
    known = before and [list(member) for member in members] == before["members"]
    digest = before["sha256"] if before and known else _sha256(tar)
    place = _place(request, name)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    write_atomic(place, json.dumps({"sha256": digest, "members": members}).encode())
    for at in range(0, len(members), LOT):
        lot = members[at : at + LOT]
        emit({"members": [{"path": os.path.relpath(m.path, root), "bytes": m.size, "sha256": m.sha256} for m in lot]})
    return {"bytes": tar.size, "sha256": digest, "outside": sorted(outside)}


def packed(request: dict[str, Any], path: str) -> Tar:
    """The tar of that name, as it was laid out. AgentError no_file: it was not, on this volume."""
    name = os.path.relpath(os.path.join(workspace(request), path), workspace(request))
    found = _written(request, name)
    if found is None:
        raise AgentError("no_file", f"nothing was packed as {name}")
    return Tar([Member(*member) for member in found["members"]], found["sha256"])


def _members(root: str, folder: str, paths: list[str]) -> list[Member]:
    """The files as they are now, by their names in the tar: from the folder's own on."""
    parent = os.path.join(root, os.path.dirname(folder))
    before = {path: os.stat(path) for path in paths}
    digests = files.digests(paths)
    return [
        Member(
            os.path.relpath(path, parent), path, status.st_size, bool(status.st_mode & stat.S_IXUSR),
            status.st_mtime_ns, status.st_ino, digests[path],
        )
        for path, status in before.items()
    ]  # fmt: skip


def _sha256(tar: Tar) -> str:
    """Of all of it; says how far it is every other second."""
    digest, done, said = hashlib.sha256(), 0, time.monotonic()
    for block in tar.read(0, tar.size):
        digest.update(block)
        done += len(block)
        if time.monotonic() - said > BEAT_S:
            emit({"hashed": done})
            said = time.monotonic()
    return digest.hexdigest()


def _written(request: dict[str, Any], name: str) -> dict[str, Any] | None:
    """What was laid out by that name; None: nothing, or half of it."""
    try:
        with open(_place(request, name), encoding="utf-8") as file:
            found = json.load(file)
            return found if isinstance(found, dict) else None
    except (FileNotFoundError, ValueError):
        return None


def _place(request: dict[str, Any], name: str) -> str:
    return private(request, os.path.join(".gpuplan", "packs", f"{file_name(name)}.json"))
