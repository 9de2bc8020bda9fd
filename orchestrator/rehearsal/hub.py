"""A Hugging Face hub for the rehearsal: serves folders of models under their repository names.

Of the hub's API it has what `hf download` and the checks of a download use: a revision, its tree, paths' facts, and
the files with ranges; hub_uploads.py takes uploads. Gated repositories list their files to everybody and give them to
the token only.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aiohttp import web

from orchestrator.rehearsal.faults import Switchboard

GATED = frozenset({"PrimeIntellect/INTELLECT-3"})
LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".model", ".m")
CHUNK = 1 << 20
LOOK_S = 0.5  # between two looks whether the client of a body that has stalled is still there


@dataclass(frozen=True)
class Entry:
    """One file of a repository."""

    path: str
    file: Path

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return self.file.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """Of the content, in hex."""
        with self.file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def lfs(self) -> bool:
        """Whether git would hold only a pointer to it."""
        return self.path.endswith(LFS_SUFFIXES) or self.path == "tokenizer.json"

    @cached_property
    def pointer(self) -> bytes:
        """What git holds of an LFS file."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @cached_property
    def oid(self) -> str:
        """Git's id of the blob: of the pointer for an LFS file."""
        content = self.pointer if self.lfs else self.file.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def facts(self) -> dict[str, Any]:
        """Return the entry as the tree lists it."""
        facts: dict[str, Any] = {"type": "file", "oid": self.oid, "size": self.size, "path": self.path}
        if self.lfs:
            facts["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": len(self.pointer)}
        return facts


class Commit:
    """One state of a repository."""

    def __init__(self, entries: dict[str, Entry], number: int = 0) -> None:
        self.entries, self._number = entries, number

    @cached_property
    def id(self) -> str:
        """A stable id of this content, in git's form."""
        digest = hashlib.sha1(b"%d" % self._number if self._number else b"", usedforsecurity=False)
        for entry in self.entries.values():
            digest.update(f"{entry.path}\0{entry.oid}\n".encode())
        return digest.hexdigest()


class Repository:
    """One folder of files, as the hub shows a repository: one commit, and those that disasters add to it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        entries = {str(path.relative_to(folder)): Entry(str(path.relative_to(folder)), path) for path in files}
        self._commits = [Commit(entries)]

    def move(self) -> None:
        """Somebody pushes to main: a small file more than before."""
        entries = self._commits[0].entries
        news = Entry("NEWS.md", entries["config.json"].file)
        self._commits.append(Commit({**entries, news.path: news}, len(self._commits)))

    def at(self, revision: str) -> Commit | None:
        """The commit of that id, or the newest for a name of main; None: there is none."""
        if revision in {"main", "refs/heads/main"}:
            return self._commits[-1]
        return next((commit for commit in self._commits if commit.id == revision), None)


def repositories(models: Path) -> dict[str, Repository]:
    """Find the repositories below a folder laid out as OWNER/NAME/files."""
    found = {}
    for folder in sorted(models.glob("*/*")):
        if (folder / "config.json").is_file():
            name = f"{folder.parent.name}/{folder.name}"
            found[name] = Repository(name, folder)
    return found


class Hub:
    """The hub's routes over some repositories."""

    def __init__(
        self, models: Path, token: str, *, switches: Switchboard | None = None, gated: Collection[str] = GATED
    ) -> None:
        self.repositories = repositories(models)
        self._token = token
        self._gated = frozenset(gated)
        self._switches = switches or Switchboard()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for an application of their own."""
        repo = "/{owner}/{name}"
        return [
            web.get("/api/whoami-v2", self._whoami),
            web.get(f"/api/models{repo}", self._revision),
            web.get(f"/api/models{repo}/revision/{{revision:.+}}", self._revision),
            web.get(f"/api/models{repo}/tree/{{revision}}{{folder:.*}}", self._tree),
            web.post(f"/api/models{repo}/paths-info/{{revision}}", self._paths),
            web.get(f"{repo}/resolve/{{revision}}/{{path:.+}}", self._resolve),  # HEAD comes with it
        ]

    def _repository(self, request: web.Request) -> tuple[Repository, Commit]:
        """Return the one that the address names, and which state of it. Raises the hub's own refusals."""
        given = request.headers.get("Authorization")
        if given is not None and not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise refusal(401, None, "Invalid credentials in Authorization header")
        repository = self.repositories.get("{owner}/{name}".format(**request.match_info))
        if repository is None:
            raise refusal(404, "RepoNotFound", "Repository not found")
        revision = request.match_info.get("revision", "main")
        commit = repository.at(revision)
        if commit is None:
            raise refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def allows(self, request: web.Request) -> bool:
        """Whether the request has the token."""
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())

    async def _whoami(self, request: web.Request) -> web.Response:
        if not self.allows(request):
            raise refusal(401, None, "Invalid credentials in Authorization header")
        return web.json_response({"type": "user", "id": "rehearsal", "name": "rehearsal", "orgs": []})

    def _throttle(self) -> None:
        if self._switches.take("hub-429"):
            raise refusal(429, None, "We had to rate limit you (rehearsed fault)", {"Retry-After": "1"})

    async def _revision(self, request: web.Request) -> web.Response:
        self._throttle()
        repository, _ = self._repository(request)
        if self._switches.take("hub-moved"):
            repository.move()
        _, commit = self._repository(request)
        facts = {
            "_id": commit.id[:24],
            "id": repository.name,
            "modelId": repository.name,
            "sha": commit.id,
            "private": False,
            "gated": "auto" if repository.name in self._gated else False,
            "siblings": [{"rfilename": path} for path in commit.entries],
        }
        return web.json_response(facts)

    async def _tree(self, request: web.Request) -> web.Response:
        self._throttle()
        _, commit = self._repository(request)
        folder = request.match_info["folder"].strip("/")
        inside = [entry for path, entry in commit.entries.items() if not folder or path.startswith(folder + "/")]
        if folder and not inside:
            raise refusal(404, "EntryNotFound", f"{folder} does not exist on main")
        return web.json_response(await asyncio.to_thread(lambda: [entry.facts() for entry in inside]))

    async def _paths(self, request: web.Request) -> web.Response:
        _, commit = self._repository(request)
        if request.content_type == "application/json":
            asked = list((await request.json())["paths"])
        else:
            asked = [str(path) for path in (await request.post()).getall("paths")]
        return web.json_response([commit.entries[path].facts() for path in asked if path in commit.entries])

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        repository, commit = self._repository(request)
        if repository.name in self._gated and "Authorization" not in request.headers:
            words = f"Access to model {repository.name} is restricted. You must have access to it and be authenticated."
            raise refusal(401, "GatedRepo", words)
        entry = commit.entries.get(request.match_info["path"])
        if entry is None:
            raise refusal(404, "EntryNotFound", "Entry not found")
        if request.method == "GET" and self._switches.take("hub-503"):
            raise refusal(503, None, "Service unavailable (rehearsed fault)")
        headers = {"X-Repo-Commit": commit.id, "Accept-Ranges": "bytes"}
        headers["ETag"] = f'"{await asyncio.to_thread(lambda: entry.sha256 if entry.lfs else entry.oid)}"'
        if entry.lfs:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(entry.size)}
        return await self._send(request, entry, headers)

    async def _send(self, request: web.Request, entry: Entry, headers: dict[str, str]) -> web.StreamResponse:
        start, stop = request.http_range.start or 0, request.http_range.stop or entry.size
        if start < 0:
            start += entry.size
        stop = min(stop, entry.size)
        if start >= stop and entry.size:
            raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{entry.size}"})
        partial = "Range" in request.headers
        if partial:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size}"
        response = web.StreamResponse(status=206 if partial else 200, headers=headers)
        response.content_type = "application/octet-stream"
        response.content_length = stop - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await self._body(request, response, entry, (start, stop))
        return response

    async def _body(
        self, request: web.Request, response: web.StreamResponse, entry: Entry, wanted: tuple[int, int]
    ) -> None:
        start, stop = wanted
        stalls = self._switches.take("hub-stall")
        cut = (start + stop) // 2 if stalls or self._switches.take("hub-cut") else None
        wrong = (start + stop) // 2 if self._switches.take("hub-corrupt") else None
        with entry.file.open("rb") as file:
            file.seek(start)
            while start < stop:
                chunk = bytearray(file.read(min(CHUNK, (cut or stop) - start, stop - start)))
                if wrong is not None and start <= wrong < start + len(chunk):
                    chunk[wrong - start] ^= 0xFF
                await response.write(bytes(chunk))
                start += len(chunk)
                if start == cut:
                    while stalls and request.transport and not request.transport.is_closing():  # noqa: ASYNC110  nothing tells of it
                        await asyncio.sleep(LOOK_S)
                    if request.transport:
                        request.transport.close()
                    return


def refusal(status: int, code: str | None, words: str, headers: dict[str, str] | None = None) -> web.HTTPException:
    """Return one of the hub's refusals, to be raised: `code` is what its clients tell them apart by."""
    sent = {"X-Error-Message": words} | ({"X-Error-Code": code} if code else {}) | (headers or {})
    kinds: dict[int, Callable[..., web.HTTPException]] = {
        401: web.HTTPUnauthorized,
        404: web.HTTPNotFound,
        429: web.HTTPTooManyRequests,
        503: web.HTTPServiceUnavailable,
    }
    return kinds[status](headers=sent, text=f'{{"error": "{words}"}}', content_type="application/json")
