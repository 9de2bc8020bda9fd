"""What every artifact store must do, run on all of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from orchestrator.storage.layout import UploadGone
from orchestrator.words.errors import StepFailed, UsageError
from tests.contracts.contract_stores import Served, begin, cut, payload, put, send, upload


def test_parts_become_the_object(served: Served):
    """What was sent in parts is read back byte for byte, from the start and from an offset."""
    store, data = served.open(), payload(2 * served.part_bytes + 12_345)
    sent = upload(store, "models/a.m", data)
    found = store.head("models/a.m")
    assert found is not None
    assert (len(data), hashlib.sha256(data).hexdigest()) == (found.bytes, found.sha256)
    assert sent.key == found.key
    assert data == b"".join(store.read("models/a.m"))
    assert data[served.part_bytes - 7 :] == b"".join(store.read("models/a.m", served.part_bytes - 7))
    assert b"".join(store.read("models/a.m", len(data))) == b""
    assert data[7:5007] == b"".join(store.read("models/a.m", 7, 5000))
    assert data[-5:] == b"".join(store.read("models/a.m", len(data) - 5, 5000))


def test_an_interrupted_upload_goes_on(served: Served):
    """After an interruption a fresh process is told exactly the parts that are not stored yet."""
    data = payload(3 * served.part_bytes, seed=2)
    store = served.open()
    opened = begin(store, "resume.m", data)
    parts = cut(data, opened.part_bytes)
    assert parts == store.missing(opened, parts)
    send(store, opened, parts[:2], data)
    later = served.open()
    assert parts[2:] == later.missing(opened, parts)
    send(later, opened, parts[2:], data)
    assert later.missing(opened, parts) == []
    assert len(data) == later.complete(opened, parts).bytes


def test_parts_in_any_order(served: Served):
    """A store that does not ask for an order takes the last part first."""
    store, data = served.open(), payload(2 * served.part_bytes + 1, seed=3)
    if store.ordered:
        pytest.skip("this store takes parts in order")
    opened = begin(store, "any-order.m", data)
    parts = cut(data, opened.part_bytes)
    send(store, opened, parts[::-1], data)
    store.complete(opened, parts)
    assert data == b"".join(store.read("any-order.m"))


def test_a_corrupted_part_does_not_get_in(served: Served):
    """Bytes other than those that were checksummed are refused as a part, or fail the whole object by name."""
    store, data = served.open(), payload(1000, seed=4)
    opened = begin(store, "corrupt.m", data)
    parts = cut(data, opened.part_bytes)
    wrong = bytes([data[0] ^ 1]) + data[1:]
    (signed,) = store.sign(opened, parts)
    reply = put(signed, wrong)
    if served.refuses_bad_parts:
        assert reply.status_code not in signed.accept
        assert parts == store.missing(opened, parts)
    with pytest.raises(StepFailed, match=r"corrupt\.m"):
        store.complete(opened, parts)


def test_a_lacking_part_fails_by_name(served: Served):
    """Completing without a part says which object is not whole."""
    store, data = served.open(), payload(2 * served.part_bytes, seed=5)
    opened = begin(store, "half.m", data)
    parts = cut(data, opened.part_bytes)
    send(store, opened, parts[:1], data)
    with pytest.raises(StepFailed, match=r"half\.m"):
        store.complete(opened, parts)
    store.abort(opened)


def test_a_file_that_shrank_fails_by_name(served: Served):
    """Parts that do not add up to the object's size are found before the store is asked."""
    store, data = served.open(), payload(2 * served.part_bytes, seed=6)
    opened = begin(store, "shrunk.m", data)
    parts = cut(data[:-10], opened.part_bytes)
    with pytest.raises(StepFailed, match=r"shrunk\.m"):
        store.complete(opened, parts)
    with pytest.raises(StepFailed, match=r"shrunk\.m"):
        store.complete(opened, [replace(parts[0], number=2)])
    store.abort(opened)


def test_abort_leaves_nothing(served: Served):
    """An aborted upload is gone, can be aborted again, and never becomes an object."""
    store, data = served.open(), payload(served.part_bytes + 1, seed=7)
    opened = begin(store, "given-up.m", data)
    parts = cut(data, opened.part_bytes)
    send(store, opened, parts[:1], data)
    store.abort(opened)
    store.abort(opened)
    with pytest.raises(UploadGone, match=r"given-up\.m"):
        store.missing(opened, parts)
    with pytest.raises(UploadGone, match=r"given-up\.m"):
        store.complete(opened, parts)
    assert store.head("given-up.m") is None


def test_completing_twice_is_completing_once(served: Served):
    """A completion whose answer was lost may be asked for again."""
    store, data = served.open(), payload(served.part_bytes + 1, seed=8)
    opened = begin(store, "twice.m", data)
    parts = cut(data, opened.part_bytes)
    send(store, opened, parts, data)
    assert store.complete(opened, parts) == served.open().complete(opened, parts)


@pytest.mark.parametrize("sends", [True, False])
def test_an_empty_file_is_an_object(served: Served, *, sends: bool):
    """A file without bytes is stored, whether its one empty part was sent or not."""
    store = served.open()
    opened = begin(store, f"empty-{sends}", b"")
    parts = cut(b"", opened.part_bytes)
    if sends:
        send(store, opened, parts, b"")
    assert store.complete(opened, parts if sends else []).bytes == 0
    assert b"".join(store.read(f"empty-{sends}")) == b""


@pytest.mark.parametrize("name", ["out put/it's a+b.m", "größe/„x“.t", "a%2Fb", "-rf"])
def test_names_arrive_as_they_are(served: Served, name: str):
    """Spaces, quotes, signs and umlauts in a name are part of it."""
    store = served.open()
    upload(store, name, b"x" * 10)
    assert b"".join(served.open().read(name)) == b"x" * 10


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a/../../b"])
def test_names_stay_below_the_prefix(served: Served, name: str):
    """A name that leads out of the prefix is refused."""
    with pytest.raises(UsageError, match="no name for an artifact"):
        served.open().head(name)


def test_small_documents(served: Served):
    """A manifest is stored and replaced in one call."""
    store = served.open()
    store.put_text("manifest.json", '{"a": 1}')
    store.put_text("manifest.json", '{"größe": 2}')
    assert b"".join(store.read("manifest.json")).decode() == '{"größe": 2}'


def test_what_is_not_there(served: Served):
    """An absent object is None to look at, and FileNotFoundError to read."""
    store = served.open()
    assert store.head("absent") is None
    with pytest.raises(FileNotFoundError):
        b"".join(store.read("absent"))


def test_check_leaves_nothing_behind(served: Served):
    """The check before money is spent writes no object."""
    store = served.open()
    store.check()
    assert store.head(".gpuplan-check") is None


def test_large_objects_stay_within_the_part_limit(served: Served):
    """A terabyte is cut into at most 10,000 parts."""
    store = served.open()
    opened = store.begin("huge.m", 10**12, "0" * 64)
    assert opened.part_bytes * 10_000 >= 10**12
    store.abort(opened)
