"""What machines fetch: listed and signed here, fetched without credentials, on every kind of store."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from orchestrator.storage import open_source
from orchestrator.words.errors import UsageError
from orchestrator.words.source import Source, SourceFile
from tests.contracts.contract_stores import Served, payload, upload


@pytest.fixture(params=["s3", "gcs"])
def full(request: pytest.FixtureRequest) -> tuple[Served, dict[str, bytes]]:
    """A store with a few objects below data, and one whose name only begins alike."""
    served: Served = request.getfixturevalue(request.param)
    objects = {"a.csv": payload(7000, 1), "deep/b c+d.csv": payload(300, 2), "deep/empty": b""}
    store = served.open()
    for name, content in objects.items():
        upload(store, f"data/{name}", content)
    upload(store, "database.csv", b"another")
    return served, objects


def at(served: Served, below: str) -> Source:
    """The source at an address below the store's; credentials and endpoint are the store's own."""
    store = served.open()
    access = store._access  # type: ignore[attr-defined]  # what the fixture has opened it with
    return open_source(f"{store.url}/{below}", access)


def fetch(source: Source, file: SourceFile, **headers: str) -> httpx.Response:
    signed = source.signed_get(file)
    return httpx.get(signed.url, headers={**signed.headers, **headers}, timeout=20)


def test_all_below_a_prefix_is_listed(full: tuple[Served, dict[str, bytes]]):
    """Each with its size and what tells its content; nothing that only begins alike."""
    served, objects = full
    found = at(served, "data").listing()
    assert {file.name: file.bytes for file in found} == {name: len(content) for name, content in objects.items()}
    assert len({file.etag for file in found}) == 3
    assert at(served, "nowhere").listing() == []


def test_an_address_of_one_object_is_that_object(full: tuple[Served, dict[str, bytes]]):
    """By the last part of its name."""
    served, objects = full
    (file,) = at(served, "data/deep/b c+d.csv").listing()
    assert (file.name, file.bytes) == ("b c+d.csv", len(objects["deep/b c+d.csv"]))


def test_a_signed_get_needs_no_credentials(full: tuple[Served, dict[str, bytes]]):
    """Of the whole and of any range, for names of any kind; and the store tells a checksum of it."""
    served, objects = full
    source = at(served, "data")
    for file in source.listing():
        content = objects[file.name]
        assert fetch(source, file).content == content
        said = source.about(file)
        assert said
        assert said.bytes == len(content)
        assert said.sha256 == hashlib.sha256(content).hexdigest()
        assert said.crc32 or said.md5
    (first,) = (file for file in source.listing() if file.name == "a.csv")
    reply = fetch(source, first, Range="bytes=100-5099")
    assert (reply.status_code, reply.content) == (206, objects["a.csv"][100:5100])


def test_a_changed_object_is_another_one(full: tuple[Served, dict[str, bytes]]):
    """Its tag is another one, though its size is not."""
    served, objects = full
    source = at(served, "data")
    before = {file.name: file.etag for file in source.listing()}
    upload(served.open(), "data/a.csv", objects["a.csv"][::-1])
    after = {file.name: file.etag for file in source.listing()}
    assert {name for name in before if before[name] != after[name]} == {"a.csv"}


@pytest.mark.parametrize("url", ["file:///tmp/x", "http://example.org/x", "x", ""])
def test_nothing_else_is_a_source(url: str):
    """A folder of this computer is none: no machine reaches it."""
    with pytest.raises(UsageError, match="nothing that machines fetch from"):
        open_source(url)
