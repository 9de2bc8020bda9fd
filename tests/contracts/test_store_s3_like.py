"""Stores that speak like S3 and are not Amazon's: what they refuse, and by what their bytes are told to be right."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.rehearsal.s3_gate import BUCKET
from orchestrator.storage import StoreAccess, open_store
from orchestrator.storage.s3 import S3Store
from orchestrator.storage.s3_proof import ByMd5, multipart_etag
from orchestrator.words.errors import StepFailed, UsageError
from orchestrator.words.secret import Secret
from orchestrator.words.store import Part
from tests.contracts.conftest import Like
from tests.contracts.contract_stores import MIB, begin, cut, payload, put, send, upload

KEYS = StoreAccess(access_key="KEY", secret_key=Secret("a-key-of-nobody"))
R2 = "endpoint_url=https://0123abcd.r2.cloudflarestorage.com"


@pytest.mark.parametrize(("kind", "words"), [("r2", "NotImplemented"), ("b2", "Unsupported header")])
def test_amazons_checksums_are_refused_there(s3_like: Like, kind: str, words: str):
    """A store that is asked as Amazon's is says no at the first request: that is what the others are asked without."""
    server, access, _ = s3_like(kind)
    region = "us-west-004" if kind == "b2" else "auto"
    amazon = open_store(f"s3://{BUCKET}/x", replace(access, endpoint=server.endpoint, region=region))
    with pytest.raises((UsageError, StepFailed), match=words):
        amazon.check()


@pytest.mark.parametrize("kind", ["r2", "b2", "encrypting"])
def test_check_goes_the_whole_way(s3_like: Like, kind: str):
    """Begun, sent by a signed URL, listed, joined, looked at and removed, whatever that vendor refuses; texts too."""
    server, access, said = s3_like(kind)
    store = open_store(f"s3://{BUCKET}/checked{said}", access)
    server.gate.denied = {"s3:ListBucket"}
    store.check()
    server.gate.denied = set()
    assert store.head(".gpuplan-check") is None
    store.put_text("manifest.json", "{}")
    assert b"".join(store.read("manifest.json")) == b"{}"


def test_a_region_that_is_not_the_stores_is_said(s3_like: Like):
    """R2 knows no region of Amazon's: the remedy is the setting."""
    server, access, _ = s3_like("r2")
    url = f"s3://{BUCKET}/x?endpoint_url={server.endpoint}&region=eu-central-1"
    with pytest.raises(UsageError, match="eu-central-1") as raised:
        open_store(url, access).check()
    assert "auto" in raised.value.remedy


def test_a_part_is_signed_with_its_md5(s3_like: Like):
    """Other bytes, another MD5, or none, are refused."""
    _, access, said = s3_like("r2")
    store, data = open_store(f"s3://{BUCKET}/md5{said}", access), payload(100)
    opened = begin(store, "a.m", data)
    (signed,) = store.sign(opened, cut(data, opened.part_bytes))
    assert "checksum" not in signed.url.lower() + "".join(signed.headers).lower()
    assert put(signed, data[:-1] + b"?").status_code == 400
    assert put(replace(signed, headers={}), data).status_code == 403
    assert put(replace(signed, headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}), data).status_code == 403
    assert put(signed, data).status_code == 200
    store.abort(opened)


def test_where_the_etag_tells_nothing_the_object_is_read_back(s3_like: Like, monkeypatch: pytest.MonkeyPatch):
    """Encrypted objects have other ETags: the bytes are compared; elsewhere nothing is read."""
    read: list[str] = []
    whole = S3Store._sha256

    def noted(self: S3Store, key: str) -> str:
        read.append(key)
        return whole(self, key)

    monkeypatch.setattr(S3Store, "_sha256", noted)
    for kind, times in (("b2", 0), ("encrypting", 1)):
        _, access, said = s3_like(kind)
        upload(open_store(f"s3://{BUCKET}/back{said}", access), "a.m", payload(5 * MIB + 9))
        assert len(read) == times


def test_what_is_not_what_was_sent_does_not_stay(s3_like: Like, monkeypatch: pytest.MonkeyPatch):
    """A store that ignored Content-MD5 and took other bytes: the object is refused by name, and removed."""
    _, access, said = s3_like("encrypting")
    store, data = open_store(f"s3://{BUCKET}/lies{said}", access), payload(1000)
    monkeypatch.setattr(ByMd5, "part", lambda _self, _part: ({}, {}))
    opened = begin(store, "a.m", data)
    parts = cut(data, opened.part_bytes)
    assert put(store.sign(opened, parts)[0], data[:-1] + b"?").status_code == 200
    with pytest.raises(StepFailed, match=r"a\.m is stored .* not the 1,000 bytes"):
        store.complete(opened, parts)
    assert store.head("a.m") is None


def test_parts_but_the_last_are_of_one_size(s3_like: Like):
    """As R2 wants it: an object of which the second part is smaller than the first cannot be joined there; ours can."""
    _, access, said = s3_like("r2")
    store, data = open_store(f"s3://{BUCKET}/sizes{said}", access), payload(17 * MIB, seed=3)
    opened = begin(store, "odd.m", data)
    odd = [(0, 6 * MIB), (6 * MIB, 5 * MIB), (11 * MIB, 6 * MIB)]
    parts = [replace(cut(data[at : at + n], n)[0], number=i, offset=at) for i, (at, n) in enumerate(odd, 1)]
    send(store, opened, parts, data)
    with pytest.raises(StepFailed, match="same length"):
        store.complete(opened, parts)
    store.abort(opened)
    upload(store, "even.m", data)


def test_an_etag_as_cloudflare_documents_it():
    """The example of its documentation: the MD5s of two parts, and what the object is called."""
    parts = [
        Part(n, 0, 1, "", _base64(md5))
        for n, md5 in enumerate(["bce6bf66aeb76c7040fdd5f4eccb78e6", "8165449fc15bbf43d3b674595cbcc406"], 1)
    ]
    assert multipart_etag(parts) == "f77dc0eecdebcd774a2a22cb393ad2ff-2"


def _base64(hexadecimal: str) -> str:
    import base64

    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


@pytest.mark.parametrize(
    ("said", "address", "region"),
    [
        (R2, "https://0123abcd.r2.cloudflarestorage.com/bucket/p/a.m?", "auto"),
        (f"{R2}&addressing=virtual", "https://bucket.0123abcd.r2.cloudflarestorage.com/p/a.m?", "auto"),
        (
            "endpoint_url=https://s3.us-west-004.backblazeb2.com",
            "https://s3.us-west-004.backblazeb2.com/",
            "us-west-004",
        ),
        ("endpoint_url=https://minio.lab:9000&region=lab", "https://minio.lab:9000/bucket/p/a.m?", "lab"),
    ],
)
def test_signed_urls_lead_where_the_settings_say(monkeypatch: pytest.MonkeyPatch, said: str, address: str, region: str):
    """The bucket is in the path, or in the host where that is asked for; the region is the vendor's own.

    Amazon's variables for another address lead nowhere: the store is the one that was shown.
    """
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://elsewhere.example")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    (signed,) = _signed(f"s3://bucket/p?{said}")
    assert signed.url.startswith(address)
    assert f"%2F{region}%2Fs3%2F" in signed.url
    (plain,) = _signed("s3://bucket/p", region="eu-west-3")
    assert plain.url.startswith("https://bucket.s3.eu-west-3.amazonaws.com/")


def _signed(url: str, **access: Any) -> Any:
    from orchestrator.words.store import Upload

    opened = Upload("p/a.m", 1, hashlib.sha256(b"x").hexdigest(), 5 * MIB, "token")
    return open_store(url, replace(KEYS, **access)).sign(opened, cut(b"x", 5 * MIB))
