"""A model's repository at one commit: what it holds, and whether what came is that."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from dllama_glm.checkpoint.shard import LENGTH_BYTES, header_bytes
from dllama_glm.convert.errors import HubError
from dllama_glm.convert.hub.client import Client

_ADDRESS = re.compile(r"^hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^@]+))?/?$")
_COMMIT = re.compile(r"^[0-9a-f]{40,64}$")
_MAX_PAGES = 1000
_START = 1 << 16  # of a shard: more than most headers
_LARGEST_SMALL = 256 << 20


@dataclass(frozen=True)
class HubFile:
    """One file as the hub's tree lists it. `sha256` is None for small files, which have git's own id instead."""

    path: str
    size: int
    sha256: str | None
    git_id: str

    @property
    def identity(self) -> str:
        """What changes with the content."""
        return self.sha256 or self.git_id


class Check:
    """Takes a file's bytes in order and tells at the end whether they are those that the hub lists."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self._size = 0
        if file.sha256:
            self._digest = hashlib.sha256()
        else:
            self._digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """The next bytes."""
        self._size += len(data)
        self._digest.update(data)

    def passed(self) -> bool:
        """Whether size and hash are right."""
        return self._size == self._file.size and self._digest.hexdigest() == self._file.identity


class Repository:
    """Some model's files at one commit."""

    def __init__(self, client: Client, name: str, commit: str, files: dict[str, HubFile]) -> None:
        self.client = client
        self.name = name
        self.commit = commit
        self.files = files

    def address(self, path: str) -> str:
        """Where a file's content is."""
        return f"/{quote(self.name)}/resolve/{self.commit}/{quote(path)}"

    def small(self, path: str) -> bytes:
        """A file's content, checked; asked for twice at most. Raises HubError."""
        file = self.files[path]
        if file.size > _LARGEST_SMALL:
            raise HubError(f"{self.name}: {path} has {file.size:,} bytes, which no such file has")
        for _ in range(2):
            content, check = self.client.whole(self.address(path)), Check(file)
            check.update(content)
            if check.passed():
                return content
        raise HubError(f"{self.name}: {path} came twice with another size or hash than the hub lists: try again later")

    def header(self, path: str) -> bytes:
        """The header of a shard, unchecked. Raises HubError, or ValueError for what is no shard."""
        address, size = self.address(path), self.files[path].size
        start = self.client.part(address, 0, min(_START, size))
        end = LENGTH_BYTES + header_bytes(start[:LENGTH_BYTES], size)
        return (start + self.client.part(address, len(start), end))[LENGTH_BYTES:end]


def split_address(text: str) -> tuple[str, str]:
    """(OWNER/NAME, revision) of hf://OWNER/NAME[@REVISION]. Raises ValueError."""
    match = _ADDRESS.match(text)
    if not match:
        raise ValueError(f"{text} is not hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    return match["repo"], match["revision"] or "main"


def open_repository(client: Client, name: str, revision: str) -> Repository:
    """Resolve the revision, once, to the commit that everything is read from, and list it. Raises HubError."""
    facts, _ = client.document(f"/api/models/{quote(name)}/revision/{quote(revision, safe='')}")
    commit = facts.get("sha") if isinstance(facts, dict) else None
    if not isinstance(commit, str) or not _COMMIT.match(commit):
        raise HubError(f"{client.endpoint}: the answer for {name} at {revision} names no commit")
    files: dict[str, HubFile] = {}
    page: str | None = f"/api/models/{quote(name)}/tree/{commit}?recursive=true&expand=false"
    for _ in range(_MAX_PAGES):
        if page is None:
            return Repository(client, name, commit, files)
        rows, page = client.document(page)
        try:
            files |= {file.path: file for row in rows if row["type"] == "file" for file in [_file(row)]}
        except (KeyError, TypeError, ValueError):
            raise HubError(f"{client.endpoint}: the list of {name} is not laid out as a hub's") from None
    raise HubError(f"{client.endpoint}: the list of {name} has no end")


def _file(row: dict[str, Any]) -> HubFile:
    lfs = row.get("lfs") or {}
    return HubFile(str(row["path"]), int(lfs.get("size", row["size"])), lfs.get("oid"), str(row["oid"]))
