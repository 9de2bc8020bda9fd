"""A Google Cloud Storage for the rehearsal: the JSON API as the official client and resumable sessions use it.

Sessions keep whole multiples of 256 KiB of a chunk that is cut, as the real service does, and check CRC32C and MD5.
Objects lie in files, so that a cloud that is kept has them again. No credential is asked for: the session's URI is
the capability, as on the real service.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c
from aiohttp import web

from orchestrator.rehearsal.faults import Switchboard

BUCKET = "gpuplan-rehearsal"
GRANULE = 256 * 1024
Crc32c: Any = google_crc32c.Checksum  # the package has no types
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Session:
    """A resumable upload: what was announced, how much is kept, and what it became."""

    bucket: str
    announced: dict[str, Any]
    file: Path
    done: dict[str, Any] | None = None
    turn: int = 0  # counts requests: a body that is still trickling in when the next one comes is dropped

    @property
    def kept(self) -> int:
        """Bytes that are safe."""
        return self.file.stat().st_size if self.file.exists() else 0


class Gcs:
    """Buckets below a folder, and the routes over them."""

    def __init__(self, folder: Path, *, switches: Switchboard | None = None) -> None:
        self._folder = folder
        self._switches = switches or Switchboard()
        self._sessions: dict[str, Session] = {}
        (folder / "sessions").mkdir(parents=True, exist_ok=True)
        (folder / "buckets" / BUCKET).mkdir(parents=True, exist_ok=True)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for an application of their own."""
        bucket = "/storage/v1/b/{bucket}"
        return [
            web.post("/storage/v1/b", self._make_bucket),
            web.get(bucket, self._get_bucket),
            web.get(f"{bucket}/o", self._list),
            web.get(f"{bucket}/o/{{name:.+}}", self._get),
            web.delete(f"{bucket}/o/{{name:.+}}", self._delete),
            web.get(f"/download{bucket}/o/{{name:.+}}", self._download),
            web.post(f"/upload{bucket}/o", self._upload),
            web.put(f"/upload{bucket}/o", self._chunk),
            web.delete(f"/upload{bucket}/o", self._cancel),
        ]

    def _bucket(self, request: web.Request) -> Path:
        name = request.match_info["bucket"]
        folder = self._folder / "buckets" / name
        if "/" in name or name.startswith(".") or not folder.is_dir():
            raise refusal(404, "The specified bucket does not exist.")
        return folder

    async def _make_bucket(self, request: web.Request) -> web.Response:
        name = str((await request.json())["name"])
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", name):
            raise refusal(400, f"Invalid bucket name: '{name}'")
        folder = self._folder / "buckets" / name
        if folder.exists():
            raise refusal(409, "You already own this bucket. Please select another name.")
        folder.mkdir()
        return web.json_response(_bucket_facts(name))

    async def _get_bucket(self, request: web.Request) -> web.Response:
        return web.json_response(_bucket_facts(self._bucket(request).name))

    async def _list(self, request: web.Request) -> web.Response:
        prefix = request.query.get("prefix", "")
        found = [json.loads(file.read_text()) for file in self._bucket(request).glob("*.json")]
        items = sorted((item for item in found if item["name"].startswith(prefix)), key=lambda item: item["name"])
        return web.json_response({"kind": "storage#objects", "items": items})

    def _object(self, request: web.Request) -> dict[str, Any]:
        file = _facts_file(self._bucket(request), request.match_info["name"])
        if not file.exists():
            # These credentials may create and read, not list: what is not there is answered as what may not be read.
            words = "does not have storage.objects.get access to the Google Cloud Storage object, or it may not exist"
            raise refusal(403, f"gpuplan@rehearsal.iam {words}")
        return dict(json.loads(file.read_text()))

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("alt") == "media":
            return await self._download(request)
        return web.json_response(self._object(request))

    async def _delete(self, request: web.Request) -> web.Response:
        self._object(request)
        facts = _facts_file(self._bucket(request), request.match_info["name"])
        facts.unlink()
        facts.with_suffix(".data").unlink()
        return web.Response(status=204)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        facts = self._object(request)
        size = int(facts["size"])
        data = _facts_file(self._bucket(request), facts["name"]).with_suffix(".data")
        start, stop = request.http_range.start or 0, min(request.http_range.stop or size, size)
        start = max(0, size + start) if start < 0 else start
        if start >= stop and "Range" in request.headers:
            raise refusal(416, "The requested range cannot be satisfied.")
        partial = "Range" in request.headers
        headers = {"X-Goog-Hash": f"crc32c={facts['crc32c']},md5={facts['md5Hash']}", "ETag": facts["etag"]}
        headers |= {"X-Goog-Generation": facts["generation"], "X-Goog-Stored-Content-Length": facts["size"]}
        if partial:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        response = web.StreamResponse(status=206 if partial else 200, headers=headers)
        response.content_type, response.content_length = facts["contentType"], stop - start
        await response.prepare(request)
        with data.open("rb") as file:
            file.seek(start)
            while start < stop:
                chunk = file.read(min(1 << 20, stop - start))
                await response.write(chunk)
                start += len(chunk)
        return response

    async def _upload(self, request: web.Request) -> web.Response:
        bucket = self._bucket(request)
        kind = request.query.get("uploadType")
        announced: dict[str, Any]
        if kind == "resumable":
            announced = await request.json() if request.can_read_body else {}
            announced.setdefault("name", request.query.get("name"))
            self._generation_matches(request, bucket, announced["name"])
            announced.setdefault("contentType", request.headers.get("X-Upload-Content-Type"))
            announced["size"] = request.headers.get("X-Upload-Content-Length")
            return self._open(request, bucket, announced)
        if kind == "media":
            announced = {"name": request.query["name"], "contentType": request.content_type}
            content = await request.read()
        elif kind == "multipart":
            reader = await request.multipart()
            facts: Any = await reader.next()
            announced = await facts.json()
            body: Any = await reader.next()
            content = bytes(await body.read())
        else:
            raise refusal(400, f"uploadType={kind} is not known")
        self._generation_matches(request, bucket, announced["name"])
        file = self._folder / "sessions" / secrets.token_hex(8)
        file.write_bytes(content)
        return web.json_response(_finish(bucket, announced, file))

    def _generation_matches(self, request: web.Request, bucket: Path, name: str) -> None:
        wanted = request.query.get("ifGenerationMatch")
        file = _facts_file(bucket, name)
        present = json.loads(file.read_text())["generation"] if file.exists() else "0"
        if wanted is not None and wanted != present:
            raise refusal(412, "At least one of the pre-conditions you specified did not hold.")

    def _open(self, request: web.Request, bucket: Path, announced: dict[str, Any]) -> web.Response:
        upload_id = secrets.token_urlsafe(24)
        file = self._folder / "sessions" / hashlib.sha256(upload_id.encode()).hexdigest()[:16]
        self._sessions[upload_id] = Session(bucket.name, announced, file)
        uri = request.url.with_query({"uploadType": "resumable", "upload_id": upload_id})
        return web.Response(headers={"Location": str(uri), "X-GUploader-UploadID": upload_id})

    def _session(self, request: web.Request) -> Session:
        session = self._sessions.get(request.query.get("upload_id", ""))
        if session is None:
            raise refusal(404, "No such upload session")
        return session

    async def _cancel(self, request: web.Request) -> web.Response:
        session = self._session(request)
        session.file.unlink(missing_ok=True)
        del self._sessions[request.query["upload_id"]]
        return web.Response(status=499)

    async def _chunk(self, request: web.Request) -> web.Response:
        """Take a chunk, or say how much is kept."""
        session = self._session(request)
        match = CONTENT_RANGE.fullmatch(request.headers.get("Content-Range", _whole(request)))
        if match is None:
            raise refusal(400, "Invalid Content-Range")
        if self._switches.take("gcs-503"):
            await request.read()
            raise refusal(503, "Service unavailable (rehearsed fault)")
        if session.done is not None:
            return web.json_response(session.done)
        start, total = match[1], match[3]
        session.turn += 1
        arrived = start is None or await self._receive(request, session, int(start))
        if arrived and total.isdigit() and session.kept == int(total):
            session.done = _finish(self._bucket(request), session.announced, session.file)
            return web.json_response(session.done)
        _truncate(session)  # of a chunk that was not the last only whole granules are kept
        headers = {"Range": f"bytes=0-{session.kept - 1}"} if session.kept else {}
        return web.Response(status=308, headers=headers, reason="Resume Incomplete")

    async def _receive(self, request: web.Request, session: Session, start: int) -> bool:
        """Append the part of a body that is new. False: the connection ended before the body did."""
        if start > session.kept:
            raise refusal(503, f"Out of order: {session.kept} bytes are kept, the chunk begins at {start}")
        skip, turn = session.kept - start, session.turn
        cut = (request.content_length or 0) // 2 if self._switches.take("gcs-cut") else None
        received = 0
        with session.file.open("ab") as file:
            try:
                async for data in request.content.iter_any():
                    if session.turn != turn:
                        raise refusal(503, "another request goes on with this session")
                    file.write(data[skip:])
                    file.flush()
                    skip = max(0, skip - len(data))
                    received += len(data)
                    if cut is not None and received >= cut and request.transport is not None:
                        request.transport.close()
                        break
            except OSError:  # the connection is gone
                cut = received
        return cut is None


def _whole(request: web.Request) -> str:
    """What a PUT without a Content-Range means: all of the object."""
    size = request.content_length or 0
    return f"bytes 0-{size - 1}/{size}" if size else "bytes */0"


def _truncate(session: Session) -> None:
    """Only whole granules survive a chunk that was not the last."""
    if session.kept % GRANULE:
        with session.file.open("r+b") as file:
            file.truncate(session.kept // GRANULE * GRANULE)


def _finish(bucket: Path, announced: dict[str, Any], file: Path) -> dict[str, Any]:
    """Check what was announced and make it the object. Raises 400 when a checksum differs."""
    crc, md5 = Crc32c(), hashlib.md5(usedforsecurity=False)
    file.touch()
    with file.open("rb") as data:
        while chunk := data.read(1 << 20):
            crc.update(chunk)
            md5.update(chunk)
    found = {"crc32c": base64.b64encode(crc.digest()).decode(), "md5Hash": base64.b64encode(md5.digest()).decode()}
    for name, value in found.items():
        if announced.get(name) not in {None, value}:
            file.unlink()
            raise refusal(400, f"Provided {name} {announced[name]!r} doesn't match calculated {name} {value!r}.")
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    facts_file = _facts_file(bucket, announced["name"])
    generation = str(time.time_ns() // 1000)
    facts = {
        "kind": "storage#object",
        "id": f"{bucket.name}/{announced['name']}/{generation}",
        "name": announced["name"],
        "bucket": bucket.name,
        "size": str(file.stat().st_size),
        "generation": generation,
        "metageneration": "1",
        "contentType": announced.get("contentType") or "application/octet-stream",
        "metadata": announced.get("metadata") or {},
        "timeCreated": now,
        "updated": now,
        "etag": generation,
        **found,
    }
    file.replace(facts_file.with_suffix(".data"))
    facts_file.write_text(json.dumps(facts))
    return facts


def _facts_file(bucket: Path, name: str) -> Path:
    return bucket / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _bucket_facts(name: str) -> dict[str, str]:
    return {"kind": "storage#bucket", "id": name, "name": name, "location": "US", "storageClass": "STANDARD"}


def refusal(status: int, words: str) -> web.HTTPException:
    """Return a refusal in the API's form, to be raised."""
    body = json.dumps({"error": {"code": status, "message": words, "errors": [{"message": words}]}})
    kind: type[web.HTTPException] = type("Refusal", (web.HTTPException,), {"status_code": status})
    return kind(text=body, content_type="application/json")
