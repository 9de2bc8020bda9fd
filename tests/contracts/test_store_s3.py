"""What only an S3 can show: signatures, expiry, faults in the middle, and refusals in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from orchestrator.rehearsal.s3_gate import BUCKET, S3
from orchestrator.storage import StoreAccess, open_store
from orchestrator.words.errors import UsageError
from orchestrator.words.secret import Secret
from orchestrator.words.store import ArtifactStore, Part
from tests.contracts.contract_stores import MIB, begin, cut, payload, put, send

Build = Callable[..., ArtifactStore]


@pytest.fixture
def build(s3_server: S3) -> Build:
    access = StoreAccess(
        endpoint=s3_server.endpoint,
        access_key=s3_server.access_key,
        secret_key=Secret(s3_server.secret_key),
        region="us-east-1",
        part_bytes=5 * MIB,
    )
    return lambda url=f"s3://{BUCKET}/signed", **changes: open_store(url, replace(access, **changes))


@pytest.mark.parametrize("size", [100, 6 * MIB], ids=["all of a file", "a part"])
def test_a_signed_part_is_for_that_part_alone(build: Build, size: int):
    """The same signature with another number or name, another checksum, or none, is refused; so are other bytes."""
    store, data = build(), payload(size)
    opened = begin(store, "a.m", data)
    first, *_ = parts = cut(data, opened.part_bytes)
    (signed, *_), body = store.sign(opened, parts), data[: first.length]
    for here, there in (("partNumber=1", "partNumber=2"), ("/a.m?", "/b.m?")):
        if here in signed.url:
            assert put(replace(signed, url=signed.url.replace(here, there)), body).status_code == 403
    headers = {**signed.headers, "x-amz-checksum-crc32": "AAAAAA=="}
    assert put(replace(signed, headers=headers), body).status_code in {400, 403}
    assert put(signed, bytes(len(body))).status_code == 400
    bare = httpx.put(signed.url, content=body, headers={"Content-Type": "application/octet-stream"}, timeout=20)
    assert bare.status_code == 403
    assert put(signed, body).status_code == 200
    store.abort(opened)


def test_a_small_file_is_one_request(build: Build):
    """A file that is one part needs one PUT: no upload is opened for it; its sha256 and checksum come with it."""
    store, data = build(), payload(100, seed=3)
    opened = begin(store, "small.txt", data)
    parts = cut(data, opened.part_bytes)
    assert (opened.token, store.missing(opened, parts)) == ("", parts)
    (signed,) = store.sign(opened, parts)
    assert put(signed, data).status_code == 200
    assert store.missing(opened, parts) == []
    stored = store.complete(opened, parts)
    assert (stored.bytes, stored.sha256, stored.crc32) == (100, opened.sha256, parts[0].crc32)
    other = begin(store, "small.txt", payload(100, seed=4))
    assert store.missing(other, cut(payload(100, seed=4), 5 * MIB)) != []


def test_signed_parts_expire(build: Build, s3_server: S3):
    """A URL that is too old stores nothing; a new one does."""
    store, data = build(url_seconds=1), payload(100, seed=2)
    opened = begin(store, "late.m", data)
    parts = cut(data, opened.part_bytes)
    (signed,) = store.sign(opened, parts)
    old = signed.url.replace(_date(signed.url), "20200101T000000Z")
    assert put(replace(signed, url=old), data).status_code == 403
    send(build(), opened, parts, data)
    assert store.missing(opened, parts) == []
    store.abort(opened)


def _date(url: str) -> str:
    return url.partition("X-Amz-Date=")[2].partition("&")[0]


def test_a_part_whose_answer_was_lost_is_not_sent_again(build: Build, s3_server: S3):
    """The store is asked, not the sender: what arrived is there."""
    store, data = build(), payload(5 * MIB + 10, seed=3)
    opened = begin(store, "cut.m", data)
    parts = cut(data, opened.part_bytes)
    s3_server.gate._switches.arm("s3-cut")
    with pytest.raises(httpx.TransportError):
        put(store.sign(opened, parts)[0], data, timeout_s=2)
    assert parts[1:] == store.missing(opened, parts)
    send(store, opened, parts[1:], data)
    assert store.complete(opened, parts).crc32 is not None


def test_the_objects_own_checksum_is_stored(build: Build):
    """The store keeps the CRC32 of the whole object, which is that of the file."""
    store, data = build(), payload(2 * 5 * MIB + 3, seed=4)
    opened = begin(store, "whole.m", data)
    parts = cut(data, opened.part_bytes)
    send(store, opened, parts, data)
    assert cut(data, len(data))[0].crc32 == store.complete(opened, parts).crc32


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"secret_key": Secret("wrong")}, "AWS_SECRET_ACCESS_KEY"),
        ({"access_key": "NOBODY"}, "AWS_ACCESS_KEY_ID"),
        ({"url": "s3://no-such-bucket-here/x"}, "create it"),
    ],
)
def test_check_says_what_is_wrong(build: Build, changes: dict[str, object], words: str):
    """A bucket or a key that will not do is found before money is spent."""
    with pytest.raises(UsageError, match=words):
        build(**changes).check()


def test_small_parts_are_raised_to_a_whole_number_of_mib(build: Build):
    """What the store would refuse at the very end cannot be begun."""
    with pytest.raises(UsageError, match="5242880"):
        build(part_bytes=5_000_000)
    assert isinstance(cut(b"x", 1)[0], Part)
