"""Checksums as stores have them; those of neighbouring parts joined into that of the whole, reading nothing again."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable

from orchestrator.words.store import Part

_POLYNOMIAL = 0xEDB88320  # CRC-32 (IEEE), bits reflected: the one of zlib and of S3's x-amz-checksum-crc32

_Matrix = tuple[int, ...]  # 32 columns over GF(2)


def crc32_of(body: bytes) -> str:
    """Base64 of its big-endian CRC-32, as S3's x-amz-checksum-crc32 has it."""
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def md5_of(body: bytes) -> str:
    """Base64 of its MD5, as Content-MD5 has it."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def whole_crc32(parts: Iterable[Part]) -> str:
    """Base64 of the big-endian CRC-32 of the parts put together in order of their numbers."""
    crc = 0
    for part in sorted(parts, key=lambda p: p.number):
        crc = _combine(crc, int.from_bytes(base64.b64decode(part.crc32), "big"), part.length)
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def _combine(first: int, second: int, second_bytes: int) -> int:
    """The CRC of A followed by B: advance A's over as many zero bytes as B has, and add B's."""
    return _times(_zero_bytes(second_bytes), first) ^ second


def _zero_bytes(count: int) -> _Matrix:
    """The matrix that advances a CRC over `count` zero bytes, by repeated squaring."""
    step: _Matrix = (_POLYNOMIAL, *(1 << n for n in range(31)))  # one zero bit
    for _ in range(3):
        step = _square(step)
    total: _Matrix = tuple(1 << n for n in range(32))
    while count:
        if count & 1:
            total = tuple(_times(step, column) for column in total)
        step = _square(step)
        count >>= 1
    return total


def _square(matrix: _Matrix) -> _Matrix:
    return tuple(_times(matrix, column) for column in matrix)


def _times(matrix: _Matrix, vector: int) -> int:
    total = 0
    for column in matrix:
        if vector & 1:
            total ^= column
        vector >>= 1
    return total
