"""Google Cloud Storage: one resumable session an object, whose URI the machine sends to in order, without credentials.

The store knows only CRC32C and MD5 of the whole, which no part of ours carries: the MD5 that the machine computed
is compared with the store's. Where the machine's is not known the object is read back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from google.api_core import exceptions as api_errors
from google.auth import exceptions as auth_errors
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from orchestrator.storage import StoreAccess
from orchestrator.storage.layout import MIB, UploadGone, one_or_below, parse_place, part_size, require_whole
from orchestrator.words import web
from orchestrator.words.errors import StepFailed, StoreBusy, StoreUnavailable, UsageError
from orchestrator.words.outside import quoted
from orchestrator.words.source import SignedGet, SourceFile
from orchestrator.words.store import Part, SignedPart, StoredObject, Upload

T = TypeVar("T")

GRAIN = 256 * 1024  # every part but the last is a multiple of it
MOST_PARTS = 10_000  # no rule of the store's: enough to go on from without sending much again
READ_BYTES = 8 * MIB
TIMEOUT_S = 30.0
RETRY = DEFAULT_RETRY.with_timeout(20.0)
SHA256 = "sha256"  # our metadata
CHECK = b"gpuplan was here"
DONE, GOING_ON, UNKNOWN, CANCELLED = (200, 201), 308, (404, 410), 499


class GcsStore:
    """`ArtifactStore` on a bucket. Safe to use from several threads."""

    ordered = True
    shares_uploads = False  # who knows the session writes the object
    reports_md5 = True
    parts_md5 = False

    def __init__(self, url: str, access: StoreAccess) -> None:
        self.url = url
        self._place = parse_place(url)
        self._access = access
        self._part_size(0)  # refused now or never
        limits, headers = httpx.Timeout(TIMEOUT_S, connect=10.0), {"User-Agent": "gpuplan"}
        self._http = web.client(access.endpoint, timeout=limits, headers=headers)
        self._bucket = self._do(lambda: _client(access).bucket(self._place.bucket))

    def check(self) -> None:
        """See ArtifactStore. Sends a small object as an artifact is sent: a right that is missing is named.

        These credentials need not be allowed to delete: where they are not, the object stays.
        """
        key = self._place.key(".gpuplan-check")
        session = self._session(key, len(CHECK), hashlib.sha256(CHECK).hexdigest())
        reply = self._put_session(session, {"Content-Range": f"bytes 0-{len(CHECK) - 1}/{len(CHECK)}"}, body=CHECK)
        if reply.status_code not in DONE:
            kind = StoreBusy if reply.status_code in StoreBusy.STATUSES else StoreUnavailable
            raise kind(f"{self.url}: a session answers {reply.status_code} to what is sent")
        if self._blob(key) is None:
            raise UsageError(
                f"{self.url}: what was written cannot be read", remedy="these credentials need storage.objects.get"
            )
        with suppress(api_errors.GoogleAPICallError):
            self._bucket.blob(key).delete(timeout=TIMEOUT_S, retry=RETRY)

    def head(self, name: str) -> StoredObject | None:
        """See ArtifactStore. The checksum is CRC32C."""
        return self._head(self._place.key(name))

    def begin(self, name: str, size: int, sha256: str) -> Upload:
        """See ArtifactStore."""
        key = self._place.key(name)
        return Upload(key, size, sha256, self._part_size(size), self._session(key, size, sha256))

    def missing(self, upload: Upload, parts: list[Part]) -> list[Part]:
        """See ArtifactStore. A part of which a piece is there is sent whole: the store skips what it has."""
        stored = self._stored(upload)
        if stored is None:
            return []
        return [p for p in parts if p.offset + p.length > stored or p.length == 0]

    def sign(self, upload: Upload, parts: list[Part]) -> list[SignedPart]:
        """See ArtifactStore. The session URI is the capability."""
        signed = []
        for part in parts:
            end = part.offset + part.length
            span = f"{part.offset}-{end - 1}" if part.length else "*"
            accept = DONE if end == upload.bytes else (GOING_ON,)
            signed.append(SignedPart(part, upload.token, {"Content-Range": f"bytes {span}/{upload.bytes}"}, accept))
        return signed

    def complete(self, upload: Upload, parts: list[Part]) -> StoredObject:
        """See ArtifactStore. Completing twice is one completion. UploadGone: begin again."""
        require_whole(upload, parts)
        try:
            stored = self._stored(upload)
        except UploadGone:  # sessions of finished objects are forgotten after a while
            found = self._head(upload.key)
            if found is None or found.sha256 != upload.sha256:
                raise
            stored = None
        if stored is not None:
            raise StepFailed(f"{self.url}: {upload.key}: the store has {stored} of {upload.bytes} bytes")
        return self._verified(upload)

    def abort(self, upload: Upload) -> None:
        """See ArtifactStore."""
        self._cancel(upload.token)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ArtifactStore. FileNotFoundError: there is no such object."""
        yield from self._read(self._place.key(name), offset, length)

    def put_text(self, name: str, text: str) -> None:
        """See ArtifactStore."""
        blob = self._bucket.blob(self._place.key(name))
        kind = "text/plain; charset=utf-8"
        self._do(
            lambda: blob.upload_from_string(text, content_type=kind, checksum="crc32c", timeout=TIMEOUT_S, retry=RETRY)
        )

    def listing(self) -> list[SourceFile]:
        """See Source. A generation stands for one content. Who may not list may read one object."""
        prefix = self._place.prefix or None
        try:
            blobs = self._do(lambda: list(self._bucket.list_blobs(prefix=prefix, timeout=TIMEOUT_S, retry=RETRY)))
        except UsageError as error:
            one = self._blob(prefix) if prefix and isinstance(error.__cause__, api_errors.Forbidden) else None
            if one is None:
                raise
            blobs = [one]
        named = ((self._place.named(blob.name), blob) for blob in blobs)
        found = [SourceFile(name, blob.name, blob.size, str(blob.generation)) for name, blob in named if name]
        return one_or_below(self._place, found)

    def about(self, file: SourceFile) -> StoredObject | None:
        """See Source."""
        return self._head(file.key)

    def signed_get(self, file: SourceFile) -> SignedGet:
        """See Source."""
        if self._access.endpoint:  # no account stands behind it that could sign
            place = f"{self._access.endpoint}/download/storage/v1/b/{self._place.bucket}/o/{quote(file.key, safe='')}"
            return SignedGet(f"{place}?alt=media&generation={file.etag}", {})
        lasts = timedelta(seconds=self._access.url_seconds)
        try:
            url = self._bucket.blob(file.key).generate_signed_url(
                version="v4", expiration=lasts, method="GET", generation=file.etag
            )
        except AttributeError as error:  # what the SDK says of credentials without a private key
            remedy = "set GOOGLE_APPLICATION_CREDENTIALS to a service account's key: a login of your own cannot sign"
            raise UsageError(f"{self.url}: these credentials cannot sign: {error}", remedy=remedy) from error
        return SignedGet(str(url), {})

    def _part_size(self, size: int) -> int:
        asked = self._access.part_bytes
        return part_size(size, asked, least=GRAIN, most_parts=MOST_PARTS, grain=GRAIN, url=self.url)

    def _session(self, key: str, size: int, sha256: str) -> str:
        blob = self._bucket.blob(key)
        blob.metadata = {SHA256: sha256}
        kind = "application/octet-stream"
        return str(
            self._do(
                lambda: blob.create_resumable_upload_session(
                    content_type=kind, size=size, timeout=TIMEOUT_S, retry=RETRY
                )
            )
        )

    def _stored(self, upload: Upload) -> int | None:
        """How many bytes the session holds; None: the object is finished. An empty object is finished by asking."""
        reply = self._put_session(upload.token, {"Content-Range": f"bytes */{upload.bytes}"})
        if reply.status_code in DONE:
            return None
        if reply.status_code == GOING_ON:
            held = reply.headers.get("Range", "bytes=0--1")  # no header at all: nothing is stored yet
            if not (end := re.fullmatch(r"bytes=0-(-1|[0-9]{1,18})", held)):
                raise StoreUnavailable(f"{self.url}: {upload.key}: the session holds {quoted(held)!r}")
            return int(end[1]) + 1
        if reply.status_code in UNKNOWN or reply.status_code == CANCELLED:
            raise UploadGone(f"{self.url}: {upload.key}: the upload session is gone ({reply.status_code})")
        kind = StoreBusy if reply.status_code in StoreBusy.STATUSES else StoreUnavailable
        raise kind(f"{self.url}: {upload.key}: the session answered {reply.status_code}")

    def _put_session(self, uri: str, headers: dict[str, str], method: str = "PUT", body: bytes = b"") -> httpx.Response:
        try:
            return self._http.request(method, uri, headers=headers, content=body)
        except httpx.RequestError as error:
            raise StoreUnavailable(f"{self.url} cannot be reached: {error or type(error).__name__}") from error

    def _cancel(self, uri: str) -> None:
        reply = self._put_session(uri, {}, "DELETE")
        if reply.status_code not in {*DONE, 204, CANCELLED, *UNKNOWN}:
            raise StoreUnavailable(f"{self.url}: giving up an upload was answered with {reply.status_code}")

    def _verified(self, upload: Upload) -> StoredObject:
        blob = self._blob(upload.key)
        if blob is None or blob.size != upload.bytes:
            size = "not at all" if blob is None else f"with {blob.size:,} bytes"
            raise StepFailed(f"{self.url}: {upload.key} is stored {size}, not with {upload.bytes:,} bytes")
        if upload.md5 and blob.md5_hash:
            right = upload.md5 == blob.md5_hash
        else:
            right = self._sha256(upload.key) == upload.sha256
        if not right:
            raise StepFailed(f"{self.url}: {upload.key}: its content is not what was sent", remedy="upload it again")
        return _stored_object(blob, upload.key)

    def _sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        for block in self._read(key, 0):
            digest.update(block)
        return digest.hexdigest()

    def _head(self, key: str) -> StoredObject | None:
        blob = self._blob(key)
        return _stored_object(blob, key) if blob else None

    def _blob(self, key: str) -> Any:
        """The object as it is stored; None: there is none, or it may not be read, which is answered alike."""

        def ask() -> Any:
            with suppress(api_errors.Forbidden):
                return self._bucket.get_blob(key, timeout=TIMEOUT_S, retry=RETRY)

        return self._do(ask)

    def _read(self, key: str, offset: int, length: int | None = None) -> Iterator[bytes]:
        found = self._head(key)
        if found is None:
            raise FileNotFoundError(f"{self.url}: there is no {key}")
        blob = self._bucket.blob(key)
        last = found.bytes if length is None else min(offset + length, found.bytes)
        while offset < last:
            end = min(offset + READ_BYTES, last)
            yield self._span(blob, offset, end)
            offset = end

    def _span(self, blob: Any, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, which is not among them."""
        how = {"checksum": None, "timeout": TIMEOUT_S, "retry": RETRY}
        block: bytes = self._do(lambda: blob.download_as_bytes(start=start, end=end - 1, **how))
        return block

    def _do(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (auth_errors.DefaultCredentialsError, auth_errors.RefreshError) as error:
            remedy = "log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
            raise UsageError(f"{self.url}: no valid credentials: {error}", remedy=remedy) from error
        except api_errors.NotFound as error:
            raise UsageError(f"{self.url}: there is no such bucket", remedy="create it, or correct the URL") from error
        except (api_errors.Forbidden, api_errors.Unauthorized) as error:
            remedy = "these credentials need storage.objects.create and storage.objects.get on the bucket"
            raise UsageError(f"{self.url}: {_words(error)}", remedy=remedy) from error
        except (api_errors.TooManyRequests, api_errors.ServiceUnavailable) as error:
            raise StoreBusy(f"{self.url}: {_words(error)}") from error
        except (api_errors.ServerError, api_errors.RetryError) as error:
            raise StoreUnavailable(f"{self.url}: {_words(error)}") from error
        except (auth_errors.TransportError, OSError) as error:  # OSError: of the HTTP library below the SDK
            raise StoreUnavailable(f"{self.url} cannot be reached: {error}") from error
        except api_errors.GoogleAPICallError as error:
            raise StepFailed(f"{self.url}: {_words(error)}") from error


def _client(access: StoreAccess) -> Any:
    if access.endpoint:  # a store other than Google's: no account stands behind it
        options = {"api_endpoint": access.endpoint}
        return storage.Client(
            project=access.project or "none", credentials=AnonymousCredentials(), client_options=options
        )
    return storage.Client(project=access.project or "none")  # objects and buckets are addressed without one


def _stored_object(blob: Any, key: str) -> StoredObject:
    return StoredObject(key, blob.size, blob.crc32c, (blob.metadata or {}).get(SHA256), blob.md5_hash)


def _words(error: Any) -> str:
    return str(getattr(error, "message", "") or error)
