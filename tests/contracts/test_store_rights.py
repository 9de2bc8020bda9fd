"""Buckets as their vendors guard them: least rights, regions of their own, stores that ask for patience."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.s3_gate import BUCKET, S3
from orchestrator.storage import StoreAccess, open_store
from orchestrator.storage.s3 import S3Store
from orchestrator.words.errors import StoreBusy, UsageError
from orchestrator.words.secret import Secret
from tests.contracts.contract_stores import MIB, Served, begin, cut, payload, put, upload

FAR, REGION = "far-away", "eu-central-2"


@pytest.fixture
def access(s3_server: S3) -> StoreAccess:
    """The way into the emulated S3."""
    key = Secret(s3_server.secret_key)
    return StoreAccess(endpoint=s3_server.endpoint, access_key=s3_server.access_key, secret_key=key, region="us-east-1")


@pytest.fixture
def denied(s3_server: S3) -> Iterator[set[str]]:
    """The rights that the credentials lack."""
    yield s3_server.gate.denied
    s3_server.gate.denied.clear()


def test_what_is_not_there_and_what_may_not_be_read_are_answered_alike(served: Served):
    """Without the right to list, a missing object is a 403: it is not there, and an upload begins."""
    store = served.open()
    assert store.head("nobody.m") is None
    with pytest.raises(FileNotFoundError):
        next(store.read("nobody.m"))
    upload(store, "somebody.m", payload(100))


def test_check_goes_the_whole_way_and_leaves_nothing(served: Served):
    """A small object is sent, joined, looked at and deleted."""
    served.open().check()
    assert served.open().head(".gpuplan-check") is None


@pytest.mark.parametrize("right", ["s3:PutObject", "s3:ListMultipartUploadParts", "s3:GetObject"])
def test_check_names_the_right_that_is_missing(access: StoreAccess, denied: set[str], right: str):
    """Each right that an upload needs at its very end is asked for before the first dollar."""
    denied.add(right)
    with pytest.raises(UsageError) as raised:
        open_store(f"s3://{BUCKET}/rights", access).check()
    assert right in raised.value.remedy


def test_check_does_without_rights_that_no_upload_needs(access: StoreAccess, denied: set[str]):
    """Who may neither delete nor list may upload."""
    denied |= {"s3:DeleteObject", "s3:ListBucket"}
    open_store(f"s3://{BUCKET}/rights", access).check()


def test_a_store_that_asks_for_patience_is_told_from_one_that_refuses(access: StoreAccess, s3_server: S3):
    """SlowDown again and again is StoreBusy, which is waited for; once or twice is nobody's business."""
    switches: Switchboard = s3_server.gate._switches
    store = open_store(f"s3://{BUCKET}/busy", access)
    for _ in range(2):
        switches.arm("s3-busy")
    assert store.head("x") is None
    switches.arm("s3-busy", "12")
    with pytest.raises(StoreBusy):
        store.check()
    while switches.take("s3-busy"):
        pass


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch, s3_server: S3, access: StoreAccess) -> Callable[[], S3Store]:
    """A bucket in a region of its own, under Amazon's names for hosts: the emulator is the proxy on the way there."""
    s3_server.gate.warm()
    if FAR not in s3_server.gate.backend.buckets:
        s3_server.gate.backend.create_bucket(FAR, REGION)
    whole = boto3.session.Session.client

    def plain(self: Any, *args: Any, **kwargs: Any) -> Any:
        return whole(self, *args, **kwargs, use_ssl=False)

    monkeypatch.setattr(boto3.session.Session, "client", plain)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, s3_server.endpoint)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return lambda: S3Store(f"s3://{FAR}/p", replace(access, endpoint=None, region=None, part_bytes=5 * MIB))


def test_signed_urls_lead_to_the_buckets_own_region(amazon: Callable[[], S3Store]):
    """Whatever region the user's tools are set to: a part goes straight there, and the circle closes."""
    store, data = amazon(), payload(100)
    opened = begin(store, "a.m", data)
    (signed,) = store.sign(opened, cut(data, opened.part_bytes))
    assert urlsplit(signed.url).hostname == f"{FAR}.s3.{REGION}.amazonaws.com"
    assert put(signed, data).status_code == 200
    store.check()


def test_a_redirect_of_a_signed_url_is_found_by_the_check(
    amazon: Callable[[], S3Store], monkeypatch: pytest.MonkeyPatch
):
    """The global host redirects, and no machine follows: said before money is spent, with what to do."""
    store = amazon()
    sign = store.sign

    def globally(*args: Any) -> Any:
        return [replace(s, url=s.url.replace(f".{REGION}.", ".")) for s in sign(*args)]

    monkeypatch.setattr(store, "sign", globally)
    with pytest.raises(UsageError, match=r"answered with (307|403)"):
        store.check()
