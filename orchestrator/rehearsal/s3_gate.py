"""An S3 for the rehearsal: moto keeps the objects, a gate before it checks what moto does not.

The gate refuses the unsigned, the expired, wrong signatures, and bodies or whole objects that do not have the checksum
that was sent with them. moto is loaded with the first request, or by `warm`: it is the slowest import of the daemon.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import secrets
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.sax.saxutils import escape

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wsgi import get_input_stream

from orchestrator.rehearsal import s3_disk
from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.s3_kinds import AMAZON as AMAZONS
from orchestrator.rehearsal.s3_kinds import Kind
from orchestrator.rehearsal.s3_signature import Rejected, Request, verify

BUCKET = "gpuplan-rehearsal"
REGION = "us-east-1"
ACCOUNT = "123456789012"  # moto's own
AMAZON = re.compile(r"(?P<bucket>.+)\.s3(\.(?P<region>[a-z0-9-]+))?\.amazonaws\.com")  # asked through us as a proxy
PART_TAG = re.compile(rb"<PartNumber>(\d+)</PartNumber>")
DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
    "content-md5": lambda body: hashlib.md5(body, usedforsecurity=False).digest(),
}


class Gate:
    """The WSGI application before moto."""

    def __init__(
        self,
        keys: tuple[str, str],
        switches: Switchboard,
        touch: Callable[[], None],
        folder: Path | None,
        kind: Kind = AMAZONS,
    ) -> None:
        self._keys = keys
        self._kind = kind
        self._folder = folder
        self._switches = switches
        self._touch = touch
        self._lock = threading.Lock()
        self.denied: set[str] = set()  # rights that the credentials lack, as `s3:GetObject`

    @cached_property
    def _moto(self) -> WSGIApplication:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        if BUCKET not in self.backend.buckets:
            self.backend.create_bucket(BUCKET, REGION)
        if self._folder is not None:
            s3_disk.load(self.backend, self._folder)
        return DomainDispatcherApplication(create_backend_app)  # type: ignore[no-any-return]  # moto is untyped here

    @cached_property
    def backend(self) -> Any:
        """The store inside moto, to look at what a request refers to."""
        from moto.s3.models import s3_backends

        return s3_backends[ACCOUNT]["aws"]

    def warm(self) -> None:
        """Load moto and make the bucket now."""
        with self._lock:
            self._moto  # noqa: B018 - made at its first use, and not by two threads at once

    def save(self) -> None:
        """Write the objects down, when there is a folder for them and moto was ever loaded."""
        with self._lock:
            if self._folder is not None and "_moto" in self.__dict__:
                s3_disk.save(self.backend, self._folder)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Check one request and hand it on, or refuse it."""
        self._touch()
        request = _request(environ)
        body = get_input_stream(environ).read()  # also of a refused request: the connection is kept
        try:
            verify(request, *self._keys)
            self._kind.admit(request)
            self.warm()
            request = self._at_its_region(request, environ)
            self._check_right(request)
            if self._switches.take("s3-busy"):
                raise Rejected(503, "SlowDown", "Please reduce your request rate. (rehearsed fault)")
            content, trailers = _content(request, body)
            self._check_upload(request, content)
            _check_digests(request, content, trailers)
        except Rejected as refusal:
            return _refuse(refusal, start_response)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        if "HTTP_X_AMZ_CHECKSUM_CRC32" in environ:  # S3 keeps what it was sent; moto wants to be told of it
            environ.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", "CRC32")
        if request.method in {"GET", "HEAD"} and self._is_absent(request):
            # These credentials may not list the bucket: what is not there is answered as what may not be read.
            return _refuse(Rejected(403, "AccessDenied", "Access Denied"), start_response)
        answer = self._moto(environ, _without_md5(start_response) if self._kind.hides_md5 else start_response)
        if _is_part(request) and self._switches.take("s3-cut"):
            raise ConnectionAbortedError("rehearsed fault: the part is stored, its answer is lost")
        return answer

    def _at_its_region(self, request: Request, environ: WSGIEnvironment) -> Request:
        """The request as one for a path, however its host names the bucket. Rejected: at another region's host."""
        host = AMAZON.fullmatch(request.headers.get("host", ""))
        if host is None:
            return request
        bucket, region = host["bucket"], host["region"]
        if bucket not in self.backend.buckets:
            raise Rejected(404, "NoSuchBucket", "The specified bucket does not exist")
        own = self.backend.buckets[bucket].region_name
        if region is None and own != REGION:
            raise Rejected(307, "TemporaryRedirect", "Please re-send this request to the specified endpoint.", own)
        if region not in {None, own}:
            raise Rejected(301, "PermanentRedirect", "The bucket must be addressed at its own endpoint.", own)
        environ["PATH_INFO"] = f"/{bucket}{environ['PATH_INFO']}"
        environ["RAW_URI"] = environ["REQUEST_URI"] = f"/{bucket}{quote(request.path)}?{request.query}"
        environ["HTTP_HOST"] = "127.0.0.1"
        return replace(request, path=f"/{bucket}".encode() + request.path)

    def _check_right(self, request: Request) -> None:
        if (right := _right(request)) in self.denied:
            raise Rejected(403, "AccessDenied", f"User is not authorized to perform: {right}")

    def _is_absent(self, request: Request) -> bool:
        """Whether a request is for an object that a bucket does not have."""
        _, bucket, key = request.path.decode().split("/", 2) if request.path.count(b"/") > 1 else ("", "", "")
        there = self.backend.buckets.get(bucket)
        return bool(key) and there is not None and key not in there.keys and "uploadId" not in request.parameters()

    def _check_upload(self, request: Request, body: bytes) -> None:
        """A part or a completion: its upload exists, and the whole object has the checksum that was announced."""
        parameters = request.parameters()
        if _is_part(request) and self._switches.take("s3-503"):
            raise Rejected(503, "SlowDown", "Please reduce your request rate. (rehearsed fault)")
        if _is_part(request) and self._switches.take("s3-expired"):
            raise Rejected(403, "AccessDenied", "Request has expired (rehearsed fault)")
        if "uploadId" not in parameters or request.method not in {"PUT", "POST"}:
            return
        bucket = request.path.split(b"/")[1].decode()
        if bucket not in self.backend.buckets:
            return  # moto says so
        upload = self.backend.buckets[bucket].multiparts.get(parameters["uploadId"])
        if upload is None:
            if request.method == "POST":
                return  # completing twice is fine, and moto knows whether it is that
            raise Rejected(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        if request.method == "POST":
            listed = [upload.parts.get(int(number)) for number in PART_TAG.findall(body)]
            self._kind.admit_parts([len(part.value) for part in listed if part])
        announced = request.headers.get("x-amz-checksum-crc32")
        if request.method == "POST" and announced:
            crc = 0
            for number in PART_TAG.findall(body):
                part = upload.parts.get(int(number))
                crc = zlib.crc32(part.value, crc) if part else crc
            if base64.b64encode(crc.to_bytes(4, "big")).decode() != announced:
                raise Rejected(400, "BadDigest", "The CRC32 you specified did not match the calculated checksum.")


def _content(request: Request, body: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the body and what follows it: clients may send both in chunks of S3's own (aws-chunked)."""
    if not request.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        return body, {}
    content, position = b"", 0
    while True:
        end = body.index(b"\r\n", position)
        length = int(body[position:end].split(b";")[0], 16)
        position = end + 2
        if not length:
            break
        content += body[position : position + length]
        position += length + 2
    lines = body[position:].decode("latin1").split("\r\n")
    pairs = (line.partition(":") for line in lines if ":" in line)
    return content, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _check_digests(request: Request, content: bytes, trailers: dict[str, str]) -> None:
    sent = request.headers.get("x-amz-content-sha256", "")
    if re.fullmatch(r"[0-9a-f]{64}", sent) and hashlib.sha256(content).hexdigest() != sent:
        words = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise Rejected(400, "XAmzContentSHA256Mismatch", words)
    if request.method != "PUT":
        return  # a completion sends the checksum of the whole object: see _check_upload
    headers = {**request.headers, **trailers}
    for name, digest in DIGESTS.items():
        if name in headers and base64.b64encode(digest(content)).decode() != headers[name]:
            raise Rejected(400, "BadDigest", f"The {name} you specified did not match what we received.")


def _without_md5(start_response: StartResponse) -> StartResponse:
    """The answer's ETag says nothing of the content, as where it is encrypted by a key of the user's."""

    def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        hidden = [(name, '"opaque"' if name.lower() == "etag" else value) for name, value in headers]
        return start_response(status, hidden, *more)

    return start


def _right(request: Request) -> str:
    """What a request needs of its credentials."""
    upload = "uploadId" in request.parameters()
    if request.path.strip(b"/").count(b"/") == 0:
        return "s3:ListBucket"
    if request.method == "DELETE":
        return "s3:AbortMultipartUpload" if upload else "s3:DeleteObject"
    if request.method in {"PUT", "POST"}:
        return "s3:PutObject"
    return "s3:ListMultipartUploadParts" if upload else "s3:GetObject"


def _is_part(request: Request) -> bool:
    """Whether it sends a part of a file by a signed URL, or all of it."""
    return request.method == "PUT" and ("partNumber=" in request.query or "X-Amz-Signature=" in request.query)


def _request(environ: WSGIEnvironment) -> Request:
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    path = environ["PATH_INFO"].encode("latin1")
    return Request(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), headers)


def _refuse(refusal: Rejected, start_response: StartResponse) -> list[bytes]:
    code, message = escape(refusal.code), escape(refusal.message)
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    body = text.encode()
    region = [("x-amz-bucket-region", refusal.region)] if refusal.region else []
    headers = [*region, ("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    start_response(f"{refusal.status} {refusal.code}", headers)
    return [body]


class S3:
    """The gate behind a port of its own, in a thread."""

    def __init__(
        self,
        *,
        folder: Path | None = None,
        switches: Switchboard | None = None,
        touch: Callable[[], None] = lambda: None,
        kind: Kind = AMAZONS,
    ) -> None:
        """`folder` is where objects lie between two daemons (None: they end with this one); `kind`: whose it is."""
        self.access_key = "REHEARSAL" + secrets.token_hex(6).upper()
        self.secret_key = secrets.token_urlsafe(30)
        self.gate = Gate((self.access_key, self.secret_key), switches or Switchboard(), touch, folder, kind)
        self._server = make_server("127.0.0.1", 0, self.gate, threaded=True, request_handler=_Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="s3", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port; what is being answered is dropped with the process."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.gate.save()


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # 40 ms an answer otherwise

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Keep quiet: URLs are capabilities."""
