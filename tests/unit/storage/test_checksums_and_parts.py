"""Joined checksums, part sizes, and names."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.storage import StoreAccess, open_store
from orchestrator.storage.checksum import whole_crc32
from orchestrator.storage.layout import part_size
from orchestrator.words.errors import UsageError
from orchestrator.words.store import Part

MIB = 1024 * 1024
S3: dict[str, Any] = {"least": 5 * MIB, "most_parts": 10_000, "grain": MIB, "url": "s3://b"}


def crc(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


@given(st.lists(st.binary(max_size=3000), max_size=8))
def test_joined_checksums_equal_the_whole(blocks: list[bytes]):
    """The parts' CRC32s give that of the file, whatever its parts, empty ones too."""
    parts = [Part(n, 0, len(b), crc(b)) for n, b in enumerate(blocks, start=1)]
    assert crc(b"".join(blocks)) == whole_crc32(reversed(parts))


def test_parts_of_gigabytes():
    """The length of a part costs no time."""
    block = b"\0" * MIB
    joined = whole_crc32([Part(1, 0, 3, crc(b"abc")), Part(2, 3, 64 * MIB, _zeros(64))])
    value = zlib.crc32(b"abc")
    for _ in range(64):
        value = zlib.crc32(block, value)
    assert joined == base64.b64encode(value.to_bytes(4, "big")).decode()


def _zeros(mib: int) -> str:
    value = 0
    for _ in range(mib):
        value = zlib.crc32(b"\0" * MIB, value)
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def test_nothing_has_a_checksum():
    """No parts at all are an empty file."""
    assert whole_crc32([]) == "AAAAAA==" == crc(b"")


@pytest.mark.parametrize(
    ("size", "asked", "expected"),
    [
        (0, None, 64 * MIB),
        (62 * 10**9, None, 64 * MIB),
        (10**12, None, 96 * MIB),
        (10**9, 5 * MIB, 5 * MIB),
        (10**12, 5 * MIB, 96 * MIB),
        (10**9, 5 * MIB + 1, 6 * MIB),
    ],
)
def test_part_sizes(size: int, asked: int | None, expected: int):
    """A part is what was asked for, or 64 MiB, raised where 10,000 parts would not do."""
    assert expected == part_size(size, asked, **S3)


def test_parts_that_would_be_refused_at_the_end_are_refused_at_the_beginning():
    """5,000,000 bytes are less than 5 MiB: said when the store is opened, with the least size."""
    with pytest.raises(UsageError, match="5242880"):
        open_store("s3://bucket/x", StoreAccess(part_bytes=5_000_000))


@pytest.mark.parametrize("url", ["ftp://b/x", "bucket", "", "s3:///x", "gs://", "file://host/x", "file:///", "s3://[x"])
def test_what_is_no_store_is_refused(url: str):
    """A wrong scheme or a missing bucket is said in words."""
    with pytest.raises(UsageError):
        open_store(url)
