"""The part of the rehearsal's hub that takes uploads: a repository, large files by LFS, a commit that names them.

It is as particular as the hub: without the token, or for a file that did not arrive whole, nothing is taken. What was
committed is served as the other repositories are. Xet is not spoken: a client that has it is told to do without
(HF_HUB_DISABLE_XET), as on emulated machines.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

from aiohttp import web

from orchestrator.rehearsal.hub import CHUNK, Repository, refusal

OWNER = "rehearsal"  # whose the token is
SMALL = 500_000  # bytes of a text that git itself keeps; the real hub lets it be 10 MB
LFS_TYPE = "application/vnd.git-lfs+json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class Uploads:
    """Routes over the hub's `repositories`. `folder`: where what is uploaded lies; `allowed`: by a request's token."""

    def __init__(
        self, folder: Path, repositories: MutableMapping[str, Repository], allowed: Callable[[web.Request], bool]
    ) -> None:
        self._folder, self._repositories, self._allowed = folder, repositories, allowed
        self._objects = folder / "lfs"

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for an application of their own."""
        repo = "/{owner}/{name}"
        return [
            web.post("/api/repos/create", self._create),
            web.post("/api/validate-yaml", self._validate),
            web.post(f"/api/models{repo}/preupload/{{revision}}", self._preupload),
            web.post(f"{repo}.git/info/lfs/objects/batch", self._batch),
            web.put("/lfs/{oid}", self._put),
            web.post(f"/api/models{repo}/commit/{{revision}}", self._commit),
        ]

    def _require(self, request: web.Request) -> None:
        if not self._allowed(request):
            raise refusal(401, None, "Invalid username or password.")

    def _place(self, request: web.Request) -> Path:
        """The folder of the repository that the address names, one of the token's owner."""
        self._require(request)
        name = "{owner}/{name}".format(**request.match_info)
        folder = self._folder / "repositories" / name
        if request.match_info["owner"] != OWNER or not folder.is_dir():
            raise refusal(404, "RepoNotFound", "Repository not found")
        if request.match_info.get("revision", "main") != "main":
            raise refusal(404, "RevisionNotFound", "Invalid rev id")
        return folder

    async def _create(self, request: web.Request) -> web.Response:
        self._require(request)
        asked = await request.json()
        owner, name = asked.get("organization") or OWNER, str(asked.get("name"))
        if owner != OWNER or not NAME.fullmatch(name) or asked.get("type", "model") != "model":
            return web.json_response({"error": f"You don't have the rights to create {owner}/{name}"}, status=403)
        folder = self._folder / "repositories" / owner / name
        said = {"url": f"{request.url.origin()}/{owner}/{name}", "name": f"{owner}/{name}"}
        if folder.is_dir():
            return web.json_response({"error": "You already created this model repo", **said}, status=409)
        folder.mkdir(parents=True)
        self._repositories[f"{owner}/{name}"] = Repository(f"{owner}/{name}", folder)
        return web.json_response(said)

    async def _validate(self, request: web.Request) -> web.Response:
        """A card needs a licence; what else it may say is not looked at."""
        content = str((await request.json()).get("content", ""))
        head = content.split("---\n")[1] if content.startswith("---\n") and content.count("---\n") > 1 else ""
        if re.search(r"^license: [a-z0-9.-]+$", head, re.MULTILINE):
            return web.json_response({"errors": [], "warnings": []})
        return web.json_response({"errors": [{"message": '"license" is missing'}], "warnings": []}, status=400)

    async def _preupload(self, request: web.Request) -> web.Response:
        """Which files git keeps, and which LFS does; the id of what is there already."""
        self._place(request)
        commit = self._repositories["{owner}/{name}".format(**request.match_info)].at("main")
        entries = commit.entries if commit else {}
        there = {path: entry.sha256 if entry.lfs else entry.oid for path, entry in entries.items()}
        return web.json_response(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": _mode(base64.b64decode(file["sample"]), file["size"]),
                        "shouldIgnore": False,
                        "oid": there.get(file["path"]),
                    }
                    for file in (await request.json())["files"]
                ]
            }
        )

    async def _batch(self, request: web.Request) -> web.Response:
        """Where each object is to be put; one that is there needs no action."""
        self._place(request)
        objects = []
        for asked in (await request.json())["objects"]:
            one: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if not (self._objects / str(asked["oid"])).exists():
                one["actions"] = {"upload": {"href": f"{request.url.origin()}/lfs/{asked['oid']}"}}
            objects.append(one)
        return web.json_response({"transfer": "basic", "objects": objects}, content_type=LFS_TYPE)

    async def _put(self, request: web.Request) -> web.Response:
        """An object is what its name says, or is not there."""
        oid = request.match_info["oid"]
        if not SHA256.fullmatch(oid):
            raise refusal(404, "EntryNotFound", "no such object")
        self._objects.mkdir(parents=True, exist_ok=True)
        half, digest = self._objects / f"{oid}.half", hashlib.sha256()
        with half.open("wb") as out:
            async for chunk in request.content.iter_chunked(CHUNK):
                digest.update(chunk)
                out.write(chunk)
        if digest.hexdigest() != oid:
            half.unlink()
            return web.json_response({"error": "the content is not what its name says"}, status=400)
        half.rename(self._objects / oid)
        return web.json_response({})

    async def _commit(self, request: web.Request) -> web.Response:
        """All files of a commit, or none of them."""
        folder = self._place(request)
        lines = [json.loads(line) for line in (await request.read()).splitlines() if line]
        files = {str(one["value"].get("path")): one for one in lines if one["key"] in {"file", "lfsFile"}}
        for path, one in files.items():
            stored = one["key"] == "file" or (self._objects / str(one["value"]["oid"])).exists()
            if not stored or path.startswith("/") or ".." in path.split("/") or len(files) + 1 != len(lines):
                return web.json_response({"error": f"{path}: its LFS object is missing, or it is no file"}, status=400)
        for path, one in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if one["key"] == "file":
                target.write_bytes(base64.b64decode(one["value"]["content"]))
            else:
                shutil.copyfile(self._objects / one["value"]["oid"], target)
        name = "{owner}/{name}".format(**request.match_info)
        self._repositories[name] = repository = Repository(name, folder)
        made = repository.at("main")
        assert made is not None
        url = f"{request.url.origin()}/{name}/commit/{made.id}"
        return web.json_response({"commitUrl": url, "commitOid": made.id, "success": True})


def _mode(sample: bytes, size: int) -> str:
    """As the hub decides where no .gitattributes says: what is large or no text goes to LFS."""
    return "lfs" if size > SMALL or b"\0" in sample else "regular"
