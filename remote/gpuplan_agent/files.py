"""Files on the machine: what is there, with sizes and checksums, and gpuplan's own small documents."""

from __future__ import annotations

import os
from typing import Any, Iterator

from gpuplan_agent.places import open_regular, private, remove, resolve, workspace, write_atomic
from gpuplan_agent.wire import AgentError, emit

LARGEST_TEXT = 3 << 20  # as JSON it is one line, for which there is a bound
HASHERS = 4  # files read at the same time: a network volume gives one reader only a share of its speed
BEAT_S = 2.0


def op_files(request: dict[str, Any]) -> dict[str, Any]:
    """Regular files below `root` that match one of the globs (** spans folders, and a folder means all in it).

    A link to a file of the workspace is that file, under the link's name; `outside` names those that lead out of it.
    Names that begin with a dot are left out unless the glob says the dot, and so is what linked folders hold.
    `but`: folders whose files are left out. With `samples` each has a checksum of pieces of it, with `sha256` one of
    all of it.
    """
    root, real = resolve(request, request["root"]), os.path.realpath(workspace(request))
    outside: set[str] = set()
    but = tuple(os.path.join(root, folder, "") for folder in request.get("but", ()))
    found = {path for pattern in request["patterns"] for path in matching(root, pattern, real, outside)}
    paths = sorted(path for path in found if not path.startswith(but))
    entries = {path: _entry(root, path) for path in paths}
    if request.get("samples"):
        for path, digest in _samples(paths):
            entries[path]["samples"] = digest
    if request.get("sha256"):
        for path, digest in digests(paths).items():
            entries[path]["sha256"] = digest
    return {"files": list(entries.values()), "outside": sorted(outside)}


def matching(root: str, pattern: str, workspace: str, outside: set[str]) -> Iterator[str]:
    """Absolute paths of the files that a glob names below root; what leads out of the workspace goes to `outside`."""
    import glob

    if not any(character in pattern for character in "*?[") and os.path.isdir(os.path.join(root, pattern)):
        pattern = os.path.join(pattern, "**")
    real_root = os.path.realpath(root)
    for found in glob.iglob(os.path.join(glob.escape(root), pattern), recursive=True):
        if found.endswith("/"):
            continue  # a folder, or what some Pythons make of `file/**`
        path = os.path.normpath(found)
        folder = os.path.dirname(path)
        here = os.path.realpath(folder) == os.path.normpath(os.path.join(real_root, os.path.relpath(folder, root)))
        if not here or not path.startswith(os.path.join(root, "")):
            continue  # in a linked folder, or what `..` has led to
        target = os.path.realpath(path)
        if not os.path.join(target, "").startswith(os.path.join(workspace, "")):
            outside.add(os.path.relpath(path, root))
        elif os.path.isfile(path):
            yield path


def _entry(root: str, path: str) -> dict[str, Any]:
    status = os.stat(path)
    return {"path": os.path.relpath(path, root), "bytes": status.st_size, "mtime": status.st_mtime}


def _samples(paths: list[str]) -> list[tuple[str, str]]:
    from concurrent.futures import ThreadPoolExecutor

    from gpuplan_agent import hashing

    with ThreadPoolExecutor(HASHERS) as pool:
        return list(zip(paths, pool.map(hashing.samples_of, paths)))


def digests(paths: list[str]) -> dict[str, str]:
    """SHA-256 of each file; says how far it is every other second."""
    from concurrent.futures import ThreadPoolExecutor

    from gpuplan_agent import hashing

    cache = hashing.Cache()
    found = {path: known for path, known in ((path, cache.get(path)) for path in paths) if known}
    missing = [path for path in paths if path not in found]
    if not missing:
        return found
    done = [0]

    def read(count: int) -> None:
        done[0] += count  # only shown: a lost update does no harm

    def digest(path: str) -> str:
        identity = hashing.identity(path)
        value = hashing.sha256_of(path, read)
        cache.put(path, value, identity)
        return value

    with ThreadPoolExecutor(HASHERS) as pool:
        jobs = {path: pool.submit(digest, path) for path in missing}
        while not all(job.done() for job in jobs.values()):
            emit({"hashed": done[0]})
            _wait(list(jobs.values()))
        found.update({path: job.result() for path, job in jobs.items()})
    cache.save()
    return found


def _wait(jobs: list[Any]) -> None:
    from concurrent.futures import wait

    wait(jobs, timeout=BEAT_S)


def op_used(request: dict[str, Any]) -> dict[str, Any]:
    """Bytes that everything in the workspace takes on its disk; a file under several names counts once."""
    seen, total = set(), 0
    for folder, _, names in os.walk(workspace(request)):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:  # a step that runs meanwhile took it away
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
        emit({})
    return {"bytes": total}


def op_read(request: dict[str, Any]) -> dict[str, Any]:
    """A small text file; null when there is none."""
    path = resolve(request, request["path"])
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST_TEXT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {"text": None}
    if len(data) > LARGEST_TEXT:
        raise AgentError("too_large", f"{path} is larger than {LARGEST_TEXT} bytes")
    return {"text": data.decode("utf-8", "replace")}


def op_write(request: dict[str, Any]) -> dict[str, Any]:
    """Replace a small text file below the workspace's .gpuplan, whole."""
    path = private(request, request["path"])
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_atomic(path, request["text"].encode())
    return {}


def op_list(request: dict[str, Any]) -> dict[str, Any]:
    """Names in a folder, sorted; none when there is no such folder."""
    try:
        return {"names": sorted(os.listdir(resolve(request, request["path"])))}
    except (FileNotFoundError, NotADirectoryError):
        return {"names": []}


def op_remove(request: dict[str, Any]) -> dict[str, Any]:
    """Remove a file or a folder below the workspace's .gpuplan; it may be gone already."""
    return {"removed": remove(request, request["path"])}


def op_clean_incomplete(request: dict[str, Any]) -> dict[str, Any]:
    """Remove what a killed download left below dir/.cache/huggingface: it never goes on with it."""
    top = os.path.join(resolve(request, request["dir"]), ".cache", "huggingface")
    removed = freed = 0
    for folder, _, names in os.walk(top):
        for name in names:
            if name.endswith(".incomplete"):
                path = os.path.join(folder, name)
                freed += os.lstat(path).st_size
                os.unlink(path)
                removed += 1
    return {"removed": removed, "bytes": freed}
