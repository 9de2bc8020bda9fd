"""A folder as a store: what its own address lets in, and what it knows of files."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.storage import StoreAccess
from orchestrator.storage.directory import DirectoryStore
from orchestrator.storage.layout import UploadGone
from orchestrator.words.errors import StepFailed, UsageError
from orchestrator.words.store import Part, SignedPart, StoredObject

DATA = b"weights" * 100
PART = Part(1, 0, len(DATA), base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    opened = DirectoryStore((tmp_path / "a store").as_uri(), StoreAccess())
    yield opened
    opened.close()


def signed(store: DirectoryStore) -> SignedPart:
    opened = store.begin("a.m", len(DATA), hashlib.sha256(DATA).hexdigest())
    return store.sign(opened, [PART])[0]


def test_only_the_url_lets_a_part_in(store: DirectoryStore):
    """Another token is forbidden, another upload unknown, and what is stored has the checksum that was announced."""
    part = signed(store)
    token = part.url.split("/")[3]
    assert httpx.put(part.url.replace(token, "x" * len(token)), content=DATA, headers=part.headers).status_code == 403
    elsewhere = part.url.rsplit("/", 2)[0] + "/" + "0" * 32 + "/1"
    assert httpx.put(elsewhere, content=DATA, headers=part.headers).status_code == 404
    assert httpx.put(part.url, content=DATA[:-1], headers=part.headers).status_code == 400
    assert httpx.put(part.url, content=DATA).status_code == 400
    assert httpx.put(part.url, content=DATA, headers=part.headers).status_code == 200


def test_parts_come_from_this_computer_alone(store: DirectoryStore):
    """The address is on loopback."""
    assert signed(store).url.startswith("http://127.0.0.1:")


def test_a_closed_store_takes_nothing(store: DirectoryStore):
    """After close the address is gone; signing opens another."""
    part = signed(store)
    store.close()
    store.close()
    with pytest.raises(httpx.ConnectError):
        httpx.put(part.url, content=DATA, headers=part.headers)
    assert part.url != signed(store).url


def test_a_file_put_there_by_hand_has_no_checksums(store: DirectoryStore, tmp_path: Path):
    """What is not known is None, not a guess."""
    (tmp_path / "a store").mkdir()
    (tmp_path / "a store" / "mine.txt").write_text("hello")
    assert store.head("mine.txt") == StoredObject("mine.txt", 5, None, None)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path):
    """The check says so before money is spent."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written to"):
        DirectoryStore((tmp_path / "file").as_uri(), StoreAccess()).check()


def test_an_upload_that_is_gone_can_be_told(store: DirectoryStore):
    """It is a failure of the step, and a missing file to those who know no store."""
    opened = store.begin("a.m", len(DATA), "0" * 64)
    store.abort(opened)
    with pytest.raises(FileNotFoundError) as raised:
        store.missing(opened, [PART])
    assert isinstance(raised.value, UploadGone)
    assert isinstance(raised.value, StepFailed)
