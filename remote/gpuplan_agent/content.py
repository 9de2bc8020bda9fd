"""What is sent to a store: the bytes of a file, or of a tar that is nowhere on a disk, from any offset on."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterator

from gpuplan_agent.places import open_regular, resolve
from gpuplan_agent.wire import AgentError

BLOCK = 1 << 20


class File:
    """One file, as it is."""

    def __init__(self, path: str) -> None:
        self._path = path

    @property
    def size(self) -> int:
        """Bytes."""
        return os.stat(self._path).st_size

    def require(self) -> None:
        """AgentError no_file: it is not there."""
        if not os.path.isfile(self._path):
            raise AgentError("no_file", f"there is no file {self._path}")

    def read(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes of a range, block by block. ValueError: the file became shorter meanwhile."""
        with open_regular(self._path) as file:
            end = offset + length
            while offset < end:
                block = os.pread(file.fileno(), min(BLOCK, end - offset), offset)
                if not block:
                    raise ValueError(f"{self._path} became shorter while it was read")
                yield block
                offset += len(block)

    def sha256(self, on_bytes: Callable[[int], None]) -> str:
        """Hexadecimal, computed once for as long as the file stays as it is. `on_bytes` hears how much was read."""
        from gpuplan_agent.hashing import Cache, identity, sha256_of

        cache = Cache()
        known = cache.get(self._path)
        if known:
            return known
        before = identity(self._path)
        value = sha256_of(self._path, on_bytes)
        cache.put(self._path, value, before)
        cache.save()
        return value


def content(request: dict[str, Any]) -> Any:
    """What the request's `path` names: a file or, with `tar`, what was packed by that name (packing.py).

    Either has a size, ranges to read, a sha256, and can be required to be there.
    """
    if request.get("tar"):
        from gpuplan_agent import packing

        return packing.packed(request, request["path"])
    return File(resolve(request, request["path"]))
