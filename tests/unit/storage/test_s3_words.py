"""What S3's own errors become, told by boto3's stub."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from botocore import exceptions as boto_errors
from botocore.stub import Stubber
from moto import mock_aws

from orchestrator.storage import StoreAccess
from orchestrator.storage.s3 import S3Store
from orchestrator.words.errors import ProviderUnavailable, StepFailed, UsageError
from orchestrator.words.secret import Secret
from orchestrator.words.store import Part, Upload

KEY = "secret-key-that-must-not-show"
UPLOAD = Upload("p/a.m", 10, "0" * 64, 5, "upload-id")
PARTS = [Part(1, 0, 5, "AAAAAQ=="), Part(2, 5, 5, "AAAAAg==")]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> S3Store:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    access = StoreAccess(endpoint="http://127.0.0.1:9", access_key="k", secret_key=Secret(KEY), region="us-east-1")
    return S3Store("s3://bucket/p", access)


@pytest.mark.parametrize(
    ("code", "status", "error", "words"),
    [
        ("NoSuchBucket", 404, UsageError, "create it"),
        ("AccessDenied", 403, UsageError, "s3:PutObject"),
        ("ExpiredToken", 400, UsageError, "log in again"),
        ("InvalidAccessKeyId", 403, UsageError, "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, UsageError, "AWS_SECRET_ACCESS_KEY"),
        ("RequestTimeTooSkewed", 403, UsageError, "clock"),
        ("SlowDown", 503, ProviderUnavailable, "SlowDown"),
        ("Whatever", 500, ProviderUnavailable, "Whatever"),
        ("InvalidRequest", 400, StepFailed, "InvalidRequest"),
    ],
)
def test_errors_in_words(store: S3Store, code: str, status: int, error: type[Exception], words: str):
    """The bucket, the store's own code, and what to do about it are in the message; the secret is not."""
    with Stubber(store._client) as stub:
        stub.add_client_error("create_multipart_upload", code, "said the store", status)
        with pytest.raises(error, match=words) as raised:
            store.check()
    assert "s3://bucket/p" in str(raised.value)
    assert KEY not in str(raised.value)


def test_a_complete_that_fails_names_the_object(store: S3Store):
    """EntityTooSmall and its kind are about one object."""
    rows = [{"PartNumber": p.number, "Size": p.length, "ETag": "e"} for p in PARTS]
    with Stubber(store._client) as stub:
        stub.add_response("list_parts", {"Parts": rows, "IsTruncated": False})
        stub.add_client_error("complete_multipart_upload", "EntityTooSmall", "too small", 400)
        with pytest.raises(StepFailed, match=r"p/a\.m: EntityTooSmall"):
            store.complete(UPLOAD, PARTS)


def test_a_part_with_another_checksum_is_missing(store: S3Store):
    """Where the store tells a part's checksum, a part of the right size and other content is sent again."""
    rows = [
        {"PartNumber": 1, "Size": 5, "ETag": "e", "ChecksumCRC32": "AAAAAQ=="},
        {"PartNumber": 2, "Size": 5, "ETag": "e", "ChecksumCRC32": "AAAAAw=="},
    ]
    with Stubber(store._client) as stub:
        stub.add_response("list_parts", {"Parts": rows, "IsTruncated": False})
        assert PARTS[1:] == store.missing(UPLOAD, PARTS)


def test_an_object_that_differs_fails(store: S3Store):
    """The object is looked at after the completion: another checksum is a failure that names it."""
    rows = [{"PartNumber": p.number, "Size": p.length, "ETag": "e"} for p in PARTS]
    with Stubber(store._client) as stub:
        stub.add_response("list_parts", {"Parts": rows, "IsTruncated": False})
        stub.add_response("complete_multipart_upload", {})
        stub.add_response("head_object", {"ContentLength": 10, "ChecksumCRC32": "AAAAAA==", "Metadata": {}})
        with pytest.raises(StepFailed, match=r"p/a\.m"):
            store.complete(UPLOAD, PARTS)


def test_signing_covers_the_checksum(store: S3Store):
    """A batch of signatures needs no network: the part's checksum and number are in what is signed."""
    signed = store.sign(UPLOAD, PARTS * 50)
    assert "X-Amz-SignedHeaders=host%3Bx-amz-checksum-crc32" in signed[0].url
    assert "partNumber=1" in signed[0].url
    assert signed[0].headers == {"x-amz-checksum-crc32": "AAAAAQ=="}
    assert KEY not in signed[0].url


def test_no_credentials_are_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without any credentials the error names the variables."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="AWS_ACCESS_KEY_ID"):
        S3Store("s3://bucket/p", StoreAccess(endpoint="http://127.0.0.1:9")).check()


def test_a_store_that_is_not_there_may_come_back(store: S3Store, monkeypatch: pytest.MonkeyPatch):
    """No connection is a passing fault."""
    monkeypatch.setattr(store._client.meta.events, "emit_until_response", _refuse)
    with pytest.raises(ProviderUnavailable, match="cannot be reached"):
        store.check()


def _refuse(*_: object, **__: object) -> None:
    raise boto_errors.EndpointConnectionError(endpoint_url="http://127.0.0.1:9")


def test_urls_are_signed_for_the_buckets_own_region(monkeypatch: pytest.MonkeyPatch):
    """Where no region is set, the bucket's is asked for: a signature for another region would be refused."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        place = {"LocationConstraint": "eu-west-1"}
        boto3.client("s3", region_name="eu-west-1").create_bucket(Bucket="far-away", CreateBucketConfiguration=place)
        store = S3Store("s3://far-away/p", StoreAccess(access_key="k", secret_key=Secret(KEY)))
        (signed,) = store.sign(UPLOAD, PARTS[:1])
    assert "%2Feu-west-1%2Fs3%2F" in signed.url
