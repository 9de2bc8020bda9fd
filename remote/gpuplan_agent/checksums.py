"""The checksums that an upload needs, at the speed of the slowest of them."""

from __future__ import annotations

import base64
import zlib
from typing import Any

from gpuplan_agent.content import content
from gpuplan_agent.wire import emit

BEAT_S = 2.0
READERS = 4
POLYNOMIAL = 0xEDB88320  # CRC-32 of zlib, bits reversed


def op_checksums(request: dict[str, Any]) -> dict[str, Any]:
    """SHA-256 (hex), CRC-32 of the whole and of each part (base64, big-endian), of what `path` names (content.py).

    `md5` (base64) of the whole if `md5` is true, of each part if `parts_md5` is.
    """
    from concurrent.futures import Future, ThreadPoolExecutor, wait

    source, part = content(request), int(request["part_bytes"])
    size = source.size
    ranges = [(at, min(part, size - at)) for at in range(0, size, part)] or [(0, 0)]
    done = [0]

    def read(count: int) -> None:
        done[0] += count  # only shown

    with ThreadPoolExecutor(READERS + 1) as pool:
        whole = pool.submit(source.sha256, read)
        digest = pool.submit(_md5, source) if request.get("md5") else None
        parts = [pool.submit(_of_part, source, span, with_md5=bool(request.get("parts_md5"))) for span in ranges]
        waiting: list[Future[Any]] = [whole, *parts, *([digest] if digest else [])]
        while wait(waiting, timeout=BEAT_S).not_done:
            emit({"hashed": done[0]})
        found = [job.result() for job in parts]
    rows = [
        {"number": number, "offset": offset, "length": length, "crc32": _base64(crc), **({"md5": md5} if md5 else {})}
        for number, ((offset, length), (crc, md5)) in enumerate(zip(ranges, found), 1)
    ]
    joined = join([(crc, length) for (crc, _), (_, length) in zip(found, ranges)])
    reply = {"bytes": size, "sha256": whole.result(), "crc32": _base64(joined), "parts": rows}
    return {**reply, "md5": digest.result()} if digest else reply


def _md5(source: Any) -> str:
    import hashlib

    digest = hashlib.md5()  # noqa: S324 - what Google's store reports of an object; no protection hangs on it
    for block in source.read(0, source.size):
        digest.update(block)
    return base64.b64encode(digest.digest()).decode()


def _of_part(source: Any, span: tuple[int, int], *, with_md5: bool) -> tuple[int, str]:
    """CRC-32 and MD5 of a slice; "": it was not asked for."""
    import hashlib

    value, digest = 0, hashlib.md5()  # noqa: S324 - what stores that speak like S3 compare
    for block in source.read(*span):
        value = zlib.crc32(block, value)
        if with_md5:
            digest.update(block)
    return value, base64.b64encode(digest.digest()).decode() if with_md5 else ""


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def join(parts: list[tuple[int, int]]) -> int:
    """CRC-32 of a whole from (CRC-32, length) of its parts, without reading it again.

    A CRC is a remainder of polynomials over GF(2): appending n bytes multiplies it by x^(8n).
    """
    value = 0
    for crc, length in parts:
        value = _multiply(value, _power_of_x(8 * length)) ^ crc
    return value


def _multiply(a: int, b: int) -> int:
    """Product of two polynomials modulo the CRC's; bit 31 is x^0."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = (b >> 1) ^ (POLYNOMIAL if b & 1 else 0)
    return product


def _power_of_x(exponent: int) -> int:
    """x^exponent modulo the CRC's polynomial, by squaring."""
    result, square = 1 << 31, 1 << 30  # 1 and x
    while exponent:
        if exponent & 1:
            result = _multiply(result, square)
        square = _multiply(square, square)
        exponent >>= 1
    return result
