"""What only a GCS can show: sessions that are cut in the middle of a part, and refusals in words."""

from __future__ import annotations

import base64
import hashlib
import http.client
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from google.api_core import exceptions as api_errors

from orchestrator.storage import StoreAccess, open_store
from orchestrator.storage.gcs import GcsStore
from orchestrator.words.errors import ProviderUnavailable, StepFailed, UsageError
from orchestrator.words.store import SignedPart
from tests.contracts.contract_stores import MIB, Served, begin, cut, payload, put, send


def send_some(signed: SignedPart, data: bytes, count: int) -> None:
    """Begin a part, and lose the connection after `count` of its bytes."""
    url = urlsplit(signed.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    for name, value in {**signed.headers, "Content-Length": str(signed.part.length)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(data[signed.part.offset : signed.part.offset + count])
    connection.close()


def test_a_cut_inside_a_part_goes_on(gcs: Served):
    """Parts before the cut are not sent again; the part that was cut is, and the object is right."""
    store, data = gcs.open(), payload(3 * MIB + 77, seed=1)
    opened = begin(store, "cut.m", data)
    parts = cut(data, opened.part_bytes)
    send(store, opened, parts[:1], data)
    send_some(store.sign(opened, parts[1:2])[0], data, 600 * 1024)
    missing = gcs.open().missing(opened, parts)
    assert parts[1:] == missing
    for signed in store.sign(opened, missing):
        reply = put(signed, data)
        if reply.status_code == 503:  # the store had not noticed the cut yet
            reply = put(signed, data)
        assert reply.status_code in signed.accept
    assert len(data) == store.complete(opened, parts).bytes
    assert data == b"".join(store.read("cut.m"))


def test_other_content_of_the_same_size_is_found_out(gcs: Served):
    """Without the machine's MD5 the object is read back: bytes that are not those of the file fail it by name."""
    store, data = gcs.open(), payload(MIB, seed=2)
    opened = begin(store, "other.m", data)
    parts = cut(data, opened.part_bytes)
    assert put(store.sign(opened, parts)[0], data[:-1] + b"x").status_code == 200
    with pytest.raises(StepFailed, match=r"other\.m: its content"):
        store.complete(opened, parts)


def test_part_headers_say_where_a_part_belongs(gcs: Served):
    """Every part but the last is answered with 308; parts are whole grains."""
    store, data = gcs.open(), payload(2 * MIB + 5, seed=3)
    opened = begin(store, "spans.m", data)
    signed = store.sign(opened, cut(data, opened.part_bytes))
    assert [s.headers["Content-Range"] for s in signed] == [
        "bytes 0-1048575/2097157",
        "bytes 1048576-2097151/2097157",
        "bytes 2097152-2097156/2097157",
    ]
    assert [s.accept for s in signed] == [(308,), (308,), (200, 201)]
    store.abort(opened)


def test_check_says_what_is_wrong(gcs_server: str):
    """A bucket that is not there is found before money is spent."""
    with pytest.raises(UsageError, match="no such bucket"):
        open_store("gs://no-such-bucket-here/x", StoreAccess(endpoint=gcs_server)).check()


def test_no_credentials_are_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without a login the error says how to get one."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(UsageError, match="gcloud auth application-default login"):
        open_store("gs://bucket/x")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (api_errors.Forbidden("no"), UsageError),
        (api_errors.Unauthorized("no"), UsageError),
        (api_errors.TooManyRequests("slow"), ProviderUnavailable),
        (api_errors.ServiceUnavailable("busy"), ProviderUnavailable),
        (ConnectionError("refused"), ProviderUnavailable),
        (api_errors.BadRequest("odd"), StepFailed),
    ],
)
def test_errors_in_words(gcs: Served, error: Exception, expected: type[Exception]):
    """The account's faults, passing ones and the object's are told apart."""
    store = gcs.open()

    def fail() -> None:
        raise error

    assert isinstance(store, GcsStore)
    with pytest.raises(expected, match=r"gs://gpuplan-rehearsal/runs/r1"):
        store._do(fail)


def test_a_known_md5_saves_reading_back(gcs: Served, monkeypatch: pytest.MonkeyPatch):
    """With the machine's MD5 the store's own is compared: nothing is read back, and other content is found out."""
    store, data = gcs.open(), payload(MIB, seed=4)
    monkeypatch.setattr(type(store), "_read", _never)
    for sent in (data, data[:-1] + b"x"):
        opened = replace(begin(store, "large.m", data), md5=base64.b64encode(hashlib.md5(data).digest()).decode())
        parts = cut(data, opened.part_bytes)
        assert put(store.sign(opened, parts)[0], sent).status_code == 200
        if sent == data:
            assert store.complete(opened, parts).bytes == MIB
        else:
            with pytest.raises(StepFailed, match=r"large\.m: its content"):
                store.complete(opened, parts)


def _never(*_: object) -> None:
    raise AssertionError("read back")
