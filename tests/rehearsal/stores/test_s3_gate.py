"""The rehearsal's S3 against boto3 and plain HTTP."""

from __future__ import annotations

import base64
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from orchestrator.rehearsal import s3_signature
from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.s3_gate import BUCKET, S3

MIB = 1 << 20
OCTETS = {"Content-Type": "application/octet-stream"}


def crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def put(url: str, body: bytes, **headers: str) -> tuple[int, str, bytes]:
    """PUT as the agent does it, with the standard library: status, ETag, body."""
    request = urllib.request.Request(url, data=body, method="PUT", headers=OCTETS | headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["ETag"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, "", error.read()


def begin(client: Any, key: str) -> str:
    upload = client.create_multipart_upload(
        Bucket=BUCKET, Key=key, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
    )
    return upload["UploadId"]


def sign(client: Any, key: str, upload: str, number: int, body: bytes, expires: int = 60) -> str:
    params = {
        "Bucket": BUCKET, "Key": key, "UploadId": upload, "PartNumber": number, "ChecksumCRC32": crc32(body),
    }  # fmt: skip
    return client.generate_presigned_url("upload_part", Params=params, ExpiresIn=expires)


@pytest.mark.parametrize("key", ["glm4_5_air.m", "runs/1/out put/größe+1.m", "it's.m"])
def test_a_multipart_upload_through_signed_urls(client: Any, key: str):
    """Parts go up without a credential; the whole object has the announced CRC32 and size, and ranges of it."""
    parts = [os.urandom(5 * MIB), os.urandom(100_000)]
    upload = begin(client, key)
    done = []
    for number, body in enumerate(parts, 1):
        url = sign(client, key, upload, number, body)
        status, etag, text = put(url, body, **{"x-amz-checksum-crc32": crc32(body)})
        assert status == 200, text
        done.append({"PartNumber": number, "ETag": etag})
    listed = client.list_parts(Bucket=BUCKET, Key=key, UploadId=upload)["Parts"]
    assert [part["Size"] for part in listed] == [len(body) for body in parts]
    whole = b"".join(parts)
    client.complete_multipart_upload(
        Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": done}, ChecksumCRC32=crc32(whole),
        ChecksumType="FULL_OBJECT",
    )  # fmt: skip
    head = client.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["ChecksumCRC32"]) == (len(whole), crc32(whole))
    middle = client.get_object(Bucket=BUCKET, Key=key, Range=f"bytes={5 * MIB - 10}-{5 * MIB + 9}")["Body"].read()
    assert middle == whole[5 * MIB - 10 : 5 * MIB + 10]


def test_what_is_not_rightly_signed_is_refused(client: Any, s3: S3):
    """Unsigned, tampered, expired, another part's, another key's and another method's requests are 403."""
    body = b"x" * 1000
    upload = begin(client, "k")
    url = sign(client, "k", upload, 1, body)
    checksum = {"x-amz-checksum-crc32": crc32(body)}
    other = boto3.client(
        "s3", endpoint_url=s3.endpoint, aws_access_key_id="OTHER", aws_secret_access_key="x", region_name="us-east-1",
        config=client.meta.config,
    )  # fmt: skip
    old = re.sub(r"X-Amz-Date=\d{8}", "X-Amz-Date=20200101", url)
    for bad, headers, code in (
        (url.split("?")[0], checksum, b"AccessDenied"),
        (url.replace("partNumber=1", "partNumber=2"), checksum, b"SignatureDoesNotMatch"),
        (url.replace("/k?", "/j?"), checksum, b"SignatureDoesNotMatch"),
        (old, checksum, b"Request has expired"),
        (sign(other, "k", upload, 1, body), checksum, b"InvalidAccessKeyId"),
        (url, {"x-amz-checksum-crc32": crc32(b"other")}, b"SignatureDoesNotMatch"),
        (url, {}, b"SignatureDoesNotMatch"),
    ):
        status, _, text = put(bad, body, **headers)
        assert status == 403, (bad, text)
        assert code in text
    assert httpx.get(url).status_code == 403
    assert put(url, body, **checksum)[0] == 200


def test_a_url_expires(client: Any):
    """A URL holds for as long as it says and not a second longer."""
    url = urllib.parse.urlsplit(sign(client, "k", "u", 1, b"x", expires=60))
    headers = {"host": str(url.netloc), "x-amz-checksum-crc32": crc32(b"x")}
    request = s3_signature.Request("PUT", url.path.encode(), url.query, headers)
    keys = client._request_signer._credentials
    signed_at = datetime.strptime(request.parameters()["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    s3_signature.verify(request, keys.access_key, keys.secret_key, now=signed_at + timedelta(seconds=60))
    with pytest.raises(s3_signature.Rejected, match="expired"):
        s3_signature.verify(request, keys.access_key, keys.secret_key, now=signed_at + timedelta(seconds=61))


def test_a_corrupt_body_cannot_be_stored(client: Any):
    """The checksum is part of the signature: other bytes of the same length are BadDigest, and nothing is stored."""
    upload = begin(client, "corrupt")
    url = sign(client, "corrupt", upload, 1, b"right")
    status, _, text = put(url, b"wrong", **{"x-amz-checksum-crc32": crc32(b"right")})
    assert status == 400
    assert b"BadDigest" in text
    assert "Parts" not in client.list_parts(Bucket=BUCKET, Key="corrupt", UploadId=upload)


def test_a_wrong_checksum_of_the_whole_object_fails_the_completion(client: Any):
    """Completing with another CRC32 than the parts give is BadDigest; the upload stays open for the right one."""
    upload = begin(client, "whole")
    etag = client.upload_part(Bucket=BUCKET, Key="whole", UploadId=upload, PartNumber=1, Body=b"data")["ETag"]
    arguments = {
        "Bucket": BUCKET, "Key": "whole", "UploadId": upload, "ChecksumType": "FULL_OBJECT",
        "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": etag}]},
    }  # fmt: skip
    with pytest.raises(ClientError, match="BadDigest"):
        client.complete_multipart_upload(**arguments, ChecksumCRC32=crc32(b"other"))
    with pytest.raises(ClientError, match="403"):  # who may not list is told no more
        client.head_object(Bucket=BUCKET, Key="whole")
    client.complete_multipart_upload(**arguments, ChecksumCRC32=crc32(b"data"))
    assert client.get_object(Bucket=BUCKET, Key="whole")["Body"].read() == b"data"


def test_boto3s_own_uploads_are_checked_and_stored(client: Any, s3: S3):
    """put_object as boto3 sends it works; a wrong MD5, a wrong secret and an unknown bucket are refused."""
    client.put_object(Bucket=BUCKET, Key="manifest.json", Body=b"{}", IfNoneMatch="*")
    assert client.get_object(Bucket=BUCKET, Key="manifest.json")["Body"].read() == b"{}"
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=BUCKET, Key="manifest.json", Body=b"{}", IfNoneMatch="*")
    with pytest.raises(ClientError, match="BadDigest"):
        client.put_object(Bucket=BUCKET, Key="bad", Body=b"{}", ContentMD5=base64.b64encode(b"0" * 16).decode())
    with pytest.raises(ClientError, match="NoSuchBucket"):
        client.put_object(Bucket="other-bucket", Key="bad", Body=b"{}")
    other = boto3.client(
        "s3", endpoint_url=s3.endpoint, aws_access_key_id=s3.access_key, aws_secret_access_key="wrong",
        region_name="us-east-1", config=client.meta.config,
    )  # fmt: skip
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        other.list_objects_v2(Bucket=BUCKET)


def test_bodies_in_s3s_own_chunks_are_checked_too():
    """A body with a trailing checksum is decoded before it is checked."""
    from orchestrator.rehearsal.s3_gate import _check_digests, _content

    data = os.urandom(100)
    body = b"40\r\n" + data[:64] + b"\r\n24;x=y\r\n" + data[64:] + b"\r\n0\r\nx-amz-checksum-crc32:CRC\r\n\r\n"
    request = s3_signature.Request("PUT", b"/b/k", "", {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"})
    content, trailers = _content(request, body.replace(b"CRC", crc32(data).encode()))
    assert content == data
    _check_digests(request, content, trailers)
    content, trailers = _content(request, body.replace(b"CRC", crc32(b"").encode()))
    with pytest.raises(s3_signature.Rejected, match="did not match"):
        _check_digests(request, content, trailers)


def test_a_part_of_an_aborted_upload_is_404(client: Any):
    """After an abort a part is NoSuchUpload, and no upload is listed."""
    upload = begin(client, "aborted")
    url = sign(client, "aborted", upload, 1, b"x")
    client.abort_multipart_upload(Bucket=BUCKET, Key="aborted", UploadId=upload)
    status, _, text = put(url, b"x", **{"x-amz-checksum-crc32": crc32(b"x")})
    assert (status, b"NoSuchUpload" in text) == (404, True)


def test_the_faults_of_parts(client: Any, s3_switches: Switchboard):
    """s3-503 and s3-expired refuse one part, s3-cut stores it and drops the answer; the next tries work."""
    upload = begin(client, "faulty")
    url = sign(client, "faulty", upload, 1, b"x")
    checksum = {"x-amz-checksum-crc32": crc32(b"x")}
    s3_switches.arm("s3-503")
    assert put(url, b"x", **checksum)[0] == 503
    s3_switches.arm("s3-expired")
    assert put(url, b"x", **checksum)[0] == 403
    s3_switches.arm("s3-cut")
    with pytest.raises((http.client.HTTPException, OSError)):
        put(url, b"x", **checksum)
    assert len(client.list_parts(Bucket=BUCKET, Key="faulty", UploadId=upload)["Parts"]) == 1
    assert put(url, b"x", **checksum)[0] == 200
