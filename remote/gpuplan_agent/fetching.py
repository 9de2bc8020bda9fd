"""Fetching files from a store, each by a GET that somebody else has signed: no credential is here.

A file comes in ranges, several at the same time, into a name of its own beside its place, with a note of the ranges
that are whole: after a cut only the others are fetched. It takes its place once its checksums are right.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import queue
import threading
import time
import zlib
from typing import Any
from urllib.parse import urljoin, urlsplit

from gpuplan_agent.content import BLOCK
from gpuplan_agent.places import open_regular, workspace
from gpuplan_agent.uploads import LONGEST_REASON, SOCKET_S, connect
from gpuplan_agent.wire import AgentError, alive, emit

FETCHERS = 8
RANGE_BYTES = 32 << 20
MOVED, REDIRECTS = (301, 302, 303, 307, 308), 5
CHANGED = 412  # as a store says it
TOLD_EVERY_S = 0.5
HALF, RANGES = ".gpuplan-half", ".gpuplan-ranges"


def op_get(request: dict[str, Any]) -> dict[str, Any]:
    """Fetch files and report of each {"file", "arrived"} meanwhile, and once {"file", "done"} or {"file", "error"}.

    Each has `path`, `bytes`, `tag` (another one: what is there of it is another object's), `url`, `headers` and those
    of `crc32`, `md5`, `sha256` that are known; `follow`: redirects are, to https alone; `ranges` false: it comes whole;
    an answer with another ETag than `etag` is another content. A file that did not come is a fact, not an error.
    """
    files = [
        File(number, asked, request, int(request.get("range_bytes", RANGE_BYTES)))
        for number, asked in enumerate(request["files"])
    ]
    fetching = Fetching(files, float(request.get("socket_s", SOCKET_S)))
    threads = [threading.Thread(target=fetching.work, daemon=True) for _ in range(FETCHERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(TOLD_EVERY_S)
            fetching.tell()
            alive()
    fetching.tell()
    return {"fetched": sum(file.end(emit) for file in files)}


class File:
    """One file on its way, and what of it has come."""

    def __init__(self, number: int, asked: dict[str, Any], request: dict[str, Any], range_bytes: int) -> None:
        self.number, self.asked, self.bytes = number, asked, int(asked["bytes"])
        self.path = _below(request, asked["path"])
        self.half, self._note = self.path + HALF, self.path + RANGES
        self.error, self.status, self.arrived, self._said = "", 0, 0, -1
        self._lock, self._range = threading.Lock(), range_bytes if asked.get("ranges", True) else max(self.bytes, 1)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self._had = self._whole_ranges()
        self.arrived = sum(self._length(n) for n in self._had)

    def _length(self, number: int) -> int:
        return min(self._range, self.bytes - number * self._range)

    def missing(self) -> list[int]:
        """The numbers of the ranges that are not here."""
        return [n for n in range(-(-self.bytes // self._range)) if n not in self._had]

    def span(self, number: int) -> tuple[int, int]:
        """Where a range begins, and how long it is."""
        return number * self._range, self._length(number)

    def _whole_ranges(self) -> set[int]:
        """By the note of an earlier try at this very object; of another one nothing is kept."""
        tag = f"{self.asked['tag']} {self.bytes} {self._range}"
        try:
            with open_regular(self._note) as note:
                lines = note.read().decode("utf-8", "replace").split("\n")
            if lines[0] == tag and os.path.getsize(self.half) == self.bytes:
                return {int(line) for line in lines[1:-1] if line.isdigit()}
        except (OSError, AgentError):
            pass
        for path in (self.half, self._note):
            if os.path.lexists(path):
                os.unlink(path)
        with open(self.half, "wb") as half:
            half.truncate(self.bytes)
        with open(self._note, "w", encoding="utf-8") as new:
            new.write(tag + "\n")
        return set()

    def has(self, number: int) -> None:
        """A range is here, and on the disk."""
        with self._lock, open(self._note, "a", encoding="utf-8") as note:
            note.write(f"{number}\n")
            self._had.add(number)

    def failed(self, error: str, status: int = 0) -> None:
        """A range did not come: the first reason stands."""
        with self._lock:
            self.error, self.status = self.error or error, self.status or status

    def add(self, count: int) -> None:
        """So many bytes more are here."""
        with self._lock:
            self.arrived += count

    def tell(self, say: Any) -> None:
        """Say how much has come, where that is more than was said."""
        if self.arrived != self._said:
            self._said = self.arrived
            say({"file": self.number, "arrived": max(self.arrived, 0)})

    def end(self, say: Any) -> bool:
        """Compare the checksums of a file that is whole and put it into its place; say so, or why not."""
        if not self.missing():
            self.error, self.status = self._wrong(), 0
            if self.error:
                os.unlink(self.half)
            else:
                os.replace(self.half, self.path)
            os.unlink(self._note)
        done = not self.missing() and not self.error
        said = {} if done else {"error": self.error or "it did not come whole", "status": self.status}
        say({"file": self.number, "arrived": max(self.arrived, 0), "done": done, **said})
        return done

    def _wrong(self) -> str:
        """Which checksum is another one than the store or the plan says; "": none that is said is."""
        wanted = {name: self.asked[name] for name in ("crc32", "md5", "sha256") if self.asked.get(name)}
        if not wanted:
            return ""
        crc, md5, sha256 = 0, hashlib.md5(), hashlib.sha256()  # noqa: S324 - MD5 is what Google's store reports
        beat = time.monotonic()
        with open_regular(self.half) as file:
            while True:
                block = file.read(BLOCK)
                if not block:
                    break
                crc = zlib.crc32(block, crc) if "crc32" in wanted else 0
                for name, digest in (("md5", md5), ("sha256", sha256)):
                    if name in wanted:
                        digest.update(block)
                if time.monotonic() - beat > TOLD_EVERY_S:
                    alive()
                    beat = time.monotonic()
        found = {
            "crc32": base64.b64encode(crc.to_bytes(4, "big")).decode(),
            "md5": base64.b64encode(md5.digest()).decode(),
            "sha256": sha256.hexdigest(),
        }
        wrong = [name for name in wanted if wanted[name] != found[name]]
        return f"what arrived has another {wrong[0]} than is asked for" if wrong else ""


class Fetching:
    """The ranges that wait."""

    def __init__(self, files: list[File], socket_s: float) -> None:
        self._files, self._socket_s = files, socket_s
        self._waiting: queue.SimpleQueue[tuple[File, int]] = queue.SimpleQueue()
        for file in files:
            for number in file.missing():
                self._waiting.put((file, number))

    def tell(self) -> None:
        """Say how much of each file has come."""
        for file in self._files:
            file.tell(emit)

    def work(self) -> None:
        """Fetch ranges until none waits; those of a file that the store refuses are left."""
        while True:
            try:
                file, number = self._waiting.get_nowait()
            except queue.Empty:
                return
            if file.status:
                continue
            try:
                self._fetch(file, number)
            except (OSError, http.client.HTTPException, ValueError) as error:
                file.failed(f"{type(error).__name__}: {error}")

    def _asked(self, file: File, headers: dict[str, str]) -> tuple[http.client.HTTPConnection, Any]:
        """The answer to a GET, and its connection. ValueError: it leads elsewhere, to where nobody is to follow."""
        url = file.asked["url"]
        for _ in range(REDIRECTS + 1):
            parts = urlsplit(url)
            connection = connect(parts.scheme, parts.hostname or "", parts.port, self._socket_s)
            try:
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("GET", target, headers=headers)
                reply = connection.getresponse()
            except BaseException:
                connection.close()
                raise
            if reply.status not in MOVED or not file.asked.get("follow"):
                return connection, reply
            url = urljoin(url, reply.getheader("Location") or "")
            connection.close()
            if urlsplit(url).scheme != "https":
                raise ValueError(f"it leads to {url.partition('?')[0][:LONGEST_REASON]}, which is no https")
        raise ValueError(f"it leads on and on: more than {REDIRECTS} redirects")

    def _fetch(self, file: File, number: int) -> None:
        start, length = file.span(number)
        headers = dict(file.asked.get("headers", {}))
        if file.asked.get("ranges", True):
            headers["Range"] = f"bytes={start}-{start + length - 1}"
        connection, reply = self._asked(file, headers)
        came = 0
        try:
            if reply.status != (206 if "Range" in headers else 200):
                said = reply.read(1 << 16).decode("utf-8", "replace")[:LONGEST_REASON].strip()
                file.failed(f"HTTP {reply.status} {reply.reason}: {said}", reply.status)
                return
            etag = file.asked.get("etag")
            if etag and (reply.getheader("ETag") or etag) != etag:
                file.failed("its server has another content now", CHANGED)
                return
            with open(file.half, "r+b") as half:
                while came < length:
                    block = reply.read(min(BLOCK, length - came))
                    if not block:
                        raise ValueError(f"the store sent {came} bytes of {length}")
                    os.pwrite(half.fileno(), block, start + came)
                    came += len(block)
                    file.add(len(block))
                os.fsync(half.fileno())
            file.has(number)
            came = 0
        finally:
            file.add(-came)  # of a range that did not come whole
            connection.close()


def _below(request: dict[str, Any], path: str) -> str:
    """Where a file is to lie. AgentError outside: not below the workspace, links of its folders included."""
    root = workspace(request)
    full = os.path.normpath(os.path.join(root, path))
    folder, real = os.path.realpath(os.path.dirname(full)), os.path.realpath(root)
    if not full.startswith(root + os.sep) or not (folder + os.sep).startswith(real + os.sep):
        raise AgentError("outside", f"{path} is not below {root}")
    return full
