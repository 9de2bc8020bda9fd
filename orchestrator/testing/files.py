"""The files of a scripted machine, and what its agent answers of them."""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.engine.packs import RECORD, UNIT, header
from orchestrator.plan.globs import matches
from orchestrator.testing.traffic import Traffic
from orchestrator.words.waiting import Clock

Json = dict[str, Any]
WORKSPACE = "/workspace"
RECORDS = ".gpuplan/done/"  # where steps' done-records are; one goes when its step begins again
EXPIRED = ": Request has expired"
MEMORY_GB = 12.0  # of files that were written last, of those that stand for many bytes


@dataclass
class Disk:
    """A file system: what is on it, who holds its leases."""

    files: dict[str, bytes] = field(default_factory=dict)  # absolute path -> content
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)  # name -> holder, the moment it runs out
    runs: list[str] = field(default_factory=list)  # commands in the order in which they began here
    repeated: list[str] = field(default_factory=list)  # done-records that were there when their step began again


class Refusal(Exception):
    """What the agent says no to."""

    def __init__(self, code: str, message: str, **facts: object) -> None:
        super().__init__(message)
        self.reply: Json = {"ok": False, "code": code, "message": message, **facts}


class FileAnswers:
    """The agent's operations on files. `put`, `traffic`: see ScriptedMachine."""

    def __init__(self, clock: Clock, disk: Disk, put: Callable[[str, bytes], int], traffic: Traffic | None) -> None:
        self._clock, self.disk, self._put, self._traffic = clock, disk, put, traffic
        self.get: Callable[[str, str], bytes | int] = lambda _url, _tag: (
            404
        )  # a GET of a signed URL, as its store answers
        self._packed: dict[str, bytes] = {}  # path -> the tar that is called so
        self._hashed: set[tuple[str, bytes]] = set()  # what the agent remembers to have hashed
        self._in_memory: dict[str, float] = {}  # path -> GB of what was written last

    def _write(self, files: list[tuple[str, str]]) -> None:
        for name, content in files:
            path = posixpath.join(WORKSPACE, name)
            if self.disk.files.get(path) != content.encode():
                self.disk.files[path] = content.encode()
                self._in_memory[path] = self._weight(path)
                while sum(self._in_memory.values()) > MEMORY_GB and len(self._in_memory) > 1:
                    self._in_memory.pop(next(iter(self._in_memory)))

    def _weight(self, path: str) -> float:
        """GB that a file stands for."""
        return self._traffic.sizes.get(posixpath.relpath(path, WORKSPACE), 0.0) if self._traffic else 0.0

    def _hash(self, paths: list[str]) -> None:
        """Take the time to read what the agent has not hashed yet and is not in memory any more."""
        fresh = [path for path in paths if (path, self.disk.files[path]) not in self._hashed]
        much = sum(self._weight(path) for path in fresh if self._in_memory.get(path) is None)
        self._hashed |= {(path, self.disk.files[path]) for path in fresh}
        if self._traffic and much:
            self._traffic.wait([("volume", much)])

    def _op_files(self, request: Json) -> Json:
        root, found = str(request["root"]), []
        named = [(path, posixpath.relpath(path, root)) for path in sorted(self.disk.files)]
        named = [(p, n) for p, n in named if n[:2] != ".." and any(matches(n, one) for one in request["patterns"])]
        named = [(p, n) for p, n in named if not n.startswith(tuple(f"{folder}/" for folder in request["but"]))]
        if request["sha256"]:
            self._hash([path for path, _ in named])
        for path, name in named:
            if (content := self.disk.files.get(path)) is not None:
                entry: Json = {"path": name, "bytes": len(content), "mtime": 0.0}
                digest = hashlib.sha256(content).hexdigest()  # of pieces of it, too: nothing here is large
                found.append(entry | {key: digest for key in ("sha256", "samples") if request[key]})
        return {"files": found}

    def _pack(self, request: Json, say: Callable[[bytes], None]) -> Json:
        folder, members, tar = str(request["folder"]), list[Json](), b""
        for path in sorted(self.disk.files):
            name, content = posixpath.relpath(path, WORKSPACE), self.disk.files[path]
            if name.startswith(f"{folder}/") and any(matches(name, one) for one in request["patterns"]):
                members.append({"path": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
                short = posixpath.relpath(name, posixpath.dirname(folder) or ".")
                tar += header(short, len(content), executable=False) + content + bytes(-len(content) % UNIT)
        tar += bytes(-(-(len(tar) + 2 * UNIT) // RECORD) * RECORD - len(tar))
        self._packed[f"{WORKSPACE}/{folder}.tar"] = tar
        say(json.dumps({"members": members}).encode())
        return {"bytes": len(tar), "sha256": hashlib.sha256(tar).hexdigest()}

    def _sent(self, request: Json) -> bytes:
        """What an upload is of."""
        path = str(request["path"])
        return self._packed[path] if request["tar"] else self.disk.files[path]

    def _op_used(self, _request: Json) -> Json:
        return {"bytes": sum(map(len, self.disk.files.values()))}

    def _op_published(self, _request: Json) -> Json:
        return {"files": {}}

    def _op_list(self, request: Json) -> Json:
        place = posixpath.join(WORKSPACE, str(request["path"]))
        return {"names": sorted({posixpath.relpath(p, place) for p in self.disk.files if p.startswith(f"{place}/")})}

    def _op_read(self, request: Json) -> Json:
        content = self.disk.files.get(posixpath.join(WORKSPACE, str(request["path"])))
        return {"text": None if content is None else content.decode()}

    def _op_write(self, request: Json) -> Json:
        self.disk.files[posixpath.join(WORKSPACE, str(request["path"]))] = str(request["text"]).encode()
        return {}

    def _op_remove(self, request: Json) -> Json:
        place = posixpath.join(WORKSPACE, str(request["path"]))
        if request["path"].startswith(RECORDS) and place in self.disk.files:
            self.disk.repeated.append(posixpath.basename(place).removesuffix(".json"))
        for path in [p for p in self.disk.files if p == place or p.startswith(f"{place}/")]:
            del self.disk.files[path]
        return {}

    def _op_clean_incomplete(self, _request: Json) -> Json:
        return {"bytes": 0}

    def _op_lease(self, request: Json) -> Json:
        name, holder, now = str(request["name"]), str(request["holder"]), self._clock.monotonic()
        has, until = self.disk.leases.get(name, ("", 0.0))
        if request["action"] == "release":
            if has == holder:
                del self.disk.leases[name]
            return {"expires": 0.0}
        if (has != holder and until > now) or (request["action"] == "renew" and (has != holder or until <= now)):
            raise Refusal("held", f"held by {has or 'nobody'}", holder=has, expires=until)
        self.disk.leases[name] = (holder, now + float(request["ttl_s"]))
        return {"expires": self._clock.now().timestamp() + float(request["ttl_s"])}

    def _op_checksums(self, request: Json) -> Json:
        content, size = self._sent(request), int(request["part_bytes"])
        self._hash([] if request["tar"] else [str(request["path"])])
        slices = [content[at : at + size] for at in range(0, max(len(content), 1), size)]
        parts = [
            {"number": n + 1, "offset": n * size, "length": len(part), "crc32": _crc32(part)}
            | ({"md5": _md5(part)} if request["parts_md5"] else {})
            for n, part in enumerate(slices)
        ]
        sums = {"sha256": hashlib.sha256(content).hexdigest(), "crc32": _crc32(content), "parts": parts}
        return {"bytes": len(content), **sums} | ({"md5": _md5(content)} if request["md5"] else {})

    def _send_parts(self, request: Json, say: Callable[[bytes], None]) -> Json:
        content, refused = self._sent(request), 0
        weight = self._weight(str(request["path"]))
        for part in request["parts"]:
            if self._traffic and weight:
                share = weight * part["length"] / len(content)
                self._traffic.wait([("upload", share)], beside=[("volume", share)])
            data = content[part["offset"] : part["offset"] + part["length"]]
            status = self._put(str(part["url"]), data)
            line: Json = {"part": part["number"], "status": status, "etag": "", "bytes": len(data), "range": ""}
            if status not in part["accept"]:
                said = f"HTTP {status}" if status else "the connection was cut"
                line["error"], refused = said + (EXPIRED if status == 403 else ""), refused + 1
            say(json.dumps(line).encode())
            if refused and request["ordered"]:
                break
        return {"stored": len(request["parts"]) - refused, "failed": refused}

    def _fetch_files(self, request: Json, say: Callable[[bytes], None]) -> Json:
        fetched = 0
        for number, file in enumerate(request["files"]):
            found = self.get(str(file["url"]), str(file["tag"]))
            line: Json = {"file": number, "arrived": 0}
            if isinstance(found, int):
                line |= {"error": f"HTTP {found}", "status": found}
            elif file["md5"] not in ("", base64.b64encode(hashlib.md5(found).digest()).decode()):  # noqa: S324
                line["error"] = "what arrived has another md5 than is asked for"
            else:
                path, fetched = posixpath.normpath(posixpath.join(WORKSPACE, str(file["path"]))), fetched + 1
                weight = self._weight(path)
                if self._traffic and weight:
                    self._traffic.wait([("hub", weight)], beside=[("volume", weight)])
                self.disk.files[path] = found
                line |= {"arrived": len(found), "done": True}
            say(json.dumps(line).encode())
        return {"fetched": fetched}


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()  # noqa: S324  what stores report


def _crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
