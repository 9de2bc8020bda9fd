"""S3 and what speaks like it, through boto3: multipart uploads whose parts the machine sends by signed URL.

Each signature covers the part's checksum, so a corrupted part cannot be stored; that of the whole object is joined from
the parts' own (s3_proof.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from botocore import exceptions as boto_errors

from orchestrator.storage import StoreAccess, s3_alone
from orchestrator.storage.checksum import crc32_of, md5_of
from orchestrator.storage.layout import MIB, UploadGone, one_or_below, parse_place, part_size, require_whole
from orchestrator.storage.s3_client import checked_credentials, connect, region_of
from orchestrator.storage.s3_errors import ABSENT, FORBIDDEN, code_of, failure
from orchestrator.storage.s3_proof import ByCrc32, ByMd5, Proof
from orchestrator.storage.s3_try import allow, send_as_a_machine
from orchestrator.words.errors import GpuplanError, StepFailed, StoreUnavailable, UsageError
from orchestrator.words.source import SignedGet, SourceFile
from orchestrator.words.store import Part, SignedPart, StoredObject, Upload
from orchestrator.words.store_url import read_place

T = TypeVar("T")

LEAST_PART = 5 * MIB  # all parts but the last; found out only at complete
MOST_PARTS = 10_000
READ_BYTES = MIB
SHA256 = "sha256"  # our metadata


CHECK_NAME, CHECK = ".gpuplan-check", b"gpuplan was here"
BOTO = (boto_errors.ClientError, boto_errors.BotoCoreError)


class S3Store:
    """`ArtifactStore` on a bucket. Safe to use from several threads."""

    ordered = False
    shares_uploads = True
    reports_md5 = False

    def __init__(self, url: str, access: StoreAccess) -> None:
        self.url = url
        self._place = parse_place(url)
        said = read_place(url)
        self._proof: Proof = ByMd5() if said.endpoint_url else ByCrc32()
        self._virtual = said.virtual
        self.parts_md5 = self._proof.parts_md5
        self._access = access
        self._hidden = [] if access.access_key else checked_credentials()
        part_size(
            0, access.part_bytes, least=LEAST_PART, most_parts=MOST_PARTS, grain=1, url=url
        )  # refused now or never

    @cached_property
    def _client(self) -> Any:
        """The connection, in the bucket's own region: a URL signed for another one is refused."""
        client = self._connect(self._access)
        if self._access.endpoint or self._access.region:
            return client
        region = region_of(client, self._place.bucket)
        if region in {None, client.meta.region_name}:
            return client
        return self._connect(replace(self._access, region=region))

    def _connect(self, access: StoreAccess) -> Any:
        return connect(access, virtual=self._virtual, **self._proof.client)

    def check(self) -> None:
        """See ArtifactStore. Sends a small object as an artifact is sent: a right that is missing is named.

        These credentials need not be allowed to delete: where they are not, the object stays.
        """
        upload = self._opened(self._place.key(CHECK_NAME), len(CHECK), hashlib.sha256(CHECK).hexdigest(), MIB)
        part = Part(1, 0, len(CHECK), crc32_of(CHECK), md5_of(CHECK))
        try:
            (signed,) = self.sign(upload, [part])
            send_as_a_machine(self.url, signed, CHECK)
            held = self._needing("s3:ListMultipartUploadParts", lambda: self._held(upload))
            if not self._same(held.get(1), part):
                raise StepFailed(f"{self.url}: a part that was sent is not there: {held}")
            self._join(upload, [part])
        except Exception:
            with suppress(GpuplanError):
                self._abort(upload.key, upload.token)
            raise
        if self._head(upload.key) is None:
            raise UsageError(f"{self.url}: what was written cannot be read", remedy=allow("s3:GetObject"))
        with suppress(boto_errors.ClientError):
            self._client.delete_object(Bucket=self._place.bucket, Key=upload.key)

    def _needing(self, right: str, call: Callable[[], T]) -> T:
        """Make a call that needs a right of its own; UsageError names that one if it is missing."""
        try:
            return call()
        except UsageError as error:
            if isinstance(error.__cause__, boto_errors.ClientError) and code_of(error.__cause__) in FORBIDDEN:
                raise UsageError(error.message, remedy=allow(right)) from error
            raise

    def head(self, name: str) -> StoredObject | None:
        """See ArtifactStore."""
        return self._head(self._place.key(name))

    def begin(self, name: str, size: int, sha256: str) -> Upload:
        """See ArtifactStore."""
        key = self._place.key(name)
        each = part_size(
            size, self._access.part_bytes, least=LEAST_PART, most_parts=MOST_PARTS, grain=MIB, url=self.url
        )
        if size <= each:
            return Upload(key, size, sha256, each, s3_alone.TOKEN)
        return self._opened(key, size, sha256, each)

    def _opened(self, key: str, size: int, sha256: str, part_bytes: int) -> Upload:
        kind, about = s3_alone.KIND, {SHA256: sha256}
        opened = self._do(
            lambda: self._client.create_multipart_upload(
                Bucket=self._place.bucket, Key=key, ContentType=kind, Metadata=about, **self._proof.create
            )
        )
        return Upload(key, size, sha256, part_bytes, opened["UploadId"])

    def missing(self, upload: Upload, parts: list[Part]) -> list[Part]:
        """See ArtifactStore. UploadGone: begin again."""
        if upload.token == s3_alone.TOKEN:
            there = s3_alone.is_stored(self._looked_at(upload.key), upload, SHA256)
            return [] if there else parts
        held = self._held(upload)
        return [p for p in parts if not self._same(held.get(p.number), p)]

    def sign(self, upload: Upload, parts: list[Part]) -> list[SignedPart]:
        """See ArtifactStore. The headers are part of the signature: the machine sends them as they are."""
        bucket, seconds = self._place.bucket, self._access.url_seconds
        if upload.token == s3_alone.TOKEN:
            return [s3_alone.signed(self._client, bucket, upload, p, self._proof, seconds, SHA256) for p in parts]
        signed = []
        for part in parts:
            covered, headers = self._proof.part(part)
            asked = {
                "Bucket": bucket,
                "Key": upload.key,
                "UploadId": upload.token,
                "PartNumber": part.number,
                **covered,
            }
            url = self._client.generate_presigned_url("upload_part", Params=asked, ExpiresIn=seconds)
            signed.append(SignedPart(part, url, headers, (200,)))
        return signed

    def complete(self, upload: Upload, parts: list[Part]) -> StoredObject:
        """See ArtifactStore. Completing twice is one completion. UploadGone: begin again."""
        ordered = require_whole(upload, parts)
        if upload.bytes == 0:  # a multipart upload has at least one part, and no part is empty everywhere
            self.abort(upload)
            self._put(upload.key, b"", {SHA256: upload.sha256}, s3_alone.KIND)
            return self._verified(upload, ())
        if upload.token == s3_alone.TOKEN:
            return self._verified(upload, ordered)
        try:
            self._join(upload, ordered)
        except UploadGone:
            found = self._head(upload.key)
            if found is None or found.sha256 != upload.sha256:
                raise
        return self._verified(upload, ordered)

    def abort(self, upload: Upload) -> None:
        """See ArtifactStore."""
        if upload.token != s3_alone.TOKEN:
            self._abort(upload.key, upload.token)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ArtifactStore. FileNotFoundError: there is no such object."""
        key, last = self._place.key(name), "" if length is None else offset + length - 1
        span = {"Range": f"bytes={offset}-{last}"} if offset or length is not None else {}
        try:
            answer = self._do(lambda: self._client.get_object(Bucket=self._place.bucket, Key=key, **span))
        except StepFailed as error:
            if isinstance(error.__cause__, boto_errors.ClientError) and code_of(error.__cause__) == "InvalidRange":
                return  # nothing lies beyond the end
            raise
        except UsageError as error:
            if isinstance(error.__cause__, boto_errors.ClientError) and code_of(error.__cause__) in FORBIDDEN:
                raise FileNotFoundError(f"{error.message}: it is not there, or may not be read") from error
            raise
        try:
            yield from answer["Body"].iter_chunks(READ_BYTES)
        except (boto_errors.BotoCoreError, OSError) as error:
            raise StoreUnavailable(f"{self.url}: reading {name} broke off: {error}") from error

    def put_text(self, name: str, text: str) -> None:
        """See ArtifactStore."""
        self._put(self._place.key(name), text.encode(), {}, "text/plain; charset=utf-8")

    def listing(self) -> list[SourceFile]:
        """See Source. Who may not list may still read the one object."""
        pages = self._client.get_paginator("list_objects_v2")
        asked = {"Bucket": self._place.bucket, "Prefix": self._place.prefix}
        try:
            rows = self._do(lambda: [row for page in pages.paginate(**asked) for row in page.get("Contents", [])])
        except UsageError as error:
            denied = isinstance(error.__cause__, boto_errors.ClientError) and code_of(error.__cause__) in FORBIDDEN
            key = self._place.prefix
            if not denied or not key:
                raise
            try:
                one = self._do(lambda: self._client.head_object(Bucket=self._place.bucket, Key=key))
            except (UsageError, StepFailed):
                raise error from None  # the right that is missing is the first one's
            rows = [{"Key": key, "Size": one["ContentLength"], "ETag": one["ETag"]}]
        named = ((self._place.named(row["Key"]), row) for row in rows)
        found = [SourceFile(name, row["Key"], row["Size"], row["ETag"].strip('"')) for name, row in named if name]
        return one_or_below(self._place, found)

    def about(self, file: SourceFile) -> StoredObject | None:
        """See Source."""
        return self._head(file.key)

    def signed_get(self, file: SourceFile) -> SignedGet:
        """See Source."""
        asked = {"Bucket": self._place.bucket, "Key": file.key}
        url = self._client.generate_presigned_url("get_object", Params=asked, ExpiresIn=self._access.url_seconds)
        return SignedGet(url, {"If-Match": f'"{file.etag}"'})

    def _join(self, upload: Upload, parts: list[Part]) -> None:
        held = self._held(upload)
        absent = [p.number for p in parts if not self._same(held.get(p.number), p)]
        if absent:
            raise StepFailed(f"{self.url}: {upload.key}: the store lacks parts {absent[:10]} of {len(parts)}")
        listed = [{"PartNumber": p.number, "ETag": held[p.number]["ETag"], **self._proof.listed(p)} for p in parts]
        self._do(
            lambda: self._client.complete_multipart_upload(
                Bucket=self._place.bucket,
                Key=upload.key,
                UploadId=upload.token,
                MultipartUpload={"Parts": listed},
                **self._proof.complete(upload, parts),
            ),
            upload,
        )

    def _verified(self, upload: Upload, parts: Sequence[Part]) -> StoredObject:
        """The object that was joined. StepFailed: it is another one; where nobody but we saw that, it is removed."""
        found = self._looked_at(upload.key)
        right: bool | None = found is not None and found["ContentLength"] == upload.bytes
        if found and right and upload.bytes:
            right = self._proof.right(found, parts)
            right = self._sha256(upload.key) == upload.sha256 if right is None else right
        if not found or not right:
            said = f"as {_stored_object(upload.key, found)}" if found else "not at all"
            if self.parts_md5:  # its metadata would say that it is what it is not
                with suppress(*BOTO):
                    self._client.delete_object(Bucket=self._place.bucket, Key=upload.key)
            raise StepFailed(
                f"{self.url}: {upload.key} is stored {said}: not the {upload.bytes:,} bytes that were sent",
                remedy="upload it again",
            )
        return _stored_object(upload.key, found)

    def _sha256(self, key: str) -> str:
        """Of what is stored, read back."""
        digest = hashlib.sha256()
        answer = self._do(lambda: self._client.get_object(Bucket=self._place.bucket, Key=key))
        try:
            for block in answer["Body"].iter_chunks(READ_BYTES):
                digest.update(block)
        except (boto_errors.BotoCoreError, OSError) as error:
            raise StoreUnavailable(f"{self.url}: reading {key} back broke off: {error}") from error
        return digest.hexdigest()

    def _same(self, row: dict[str, Any] | None, part: Part) -> bool:
        """Whether the store's row is this part."""
        return row is not None and row["Size"] == part.length and self._proof.holds(row, part)

    def _held(self, upload: Upload) -> dict[int, dict[str, Any]]:
        """The parts that the store has, by number."""
        pages = self._client.get_paginator("list_parts")
        asked = {"Bucket": self._place.bucket, "Key": upload.key, "UploadId": upload.token}
        rows = self._do(lambda: [row for page in pages.paginate(**asked) for row in page.get("Parts", [])], upload)
        return {row["PartNumber"]: row for row in rows}

    def _head(self, key: str) -> StoredObject | None:
        found = self._looked_at(key)
        return _stored_object(key, found) if found else None

    def _looked_at(self, key: str) -> dict[str, Any] | None:
        try:
            asked: dict[str, Any] = self._client.head_object(Bucket=self._place.bucket, Key=key, **self._proof.head)
        except boto_errors.ClientError as error:
            if code_of(error) in ABSENT | FORBIDDEN:  # who may not list is told nothing of what is not there
                return None
            raise failure(self.url, error) from error
        except boto_errors.BotoCoreError as error:
            raise failure(self.url, error) from error
        return asked

    def _put(self, key: str, body: bytes, metadata: dict[str, str], kind: str) -> None:
        self._do(
            lambda: self._client.put_object(
                Bucket=self._place.bucket,
                Key=key,
                Body=body,
                Metadata=metadata,
                ContentType=kind,
                **self._proof.put(body),
            )
        )

    def _abort(self, key: str, upload_id: str) -> None:
        asked = {"Bucket": self._place.bucket, "Key": key, "UploadId": upload_id}
        try:
            self._client.abort_multipart_upload(**asked)
        except boto_errors.ClientError as error:
            if code_of(error) not in {"NoSuchUpload", "404"}:
                raise failure(self.url, error) from error
        except boto_errors.BotoCoreError as error:
            raise failure(self.url, error) from error

    def _do(self, call: Callable[[], T], upload: Upload | None = None) -> T:
        try:
            return call()
        except (boto_errors.ClientError, boto_errors.BotoCoreError) as error:
            raise failure(self.url, error, upload) from error


def _stored_object(key: str, found: dict[str, Any]) -> StoredObject:
    return StoredObject(key, found["ContentLength"], found.get("ChecksumCRC32"), found["Metadata"].get(SHA256))
