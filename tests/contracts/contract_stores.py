"""The stores that the contract suite runs on, and the machine's side of an upload."""

from __future__ import annotations

import base64
import hashlib
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from orchestrator.words.source import Source, SourceFile
from orchestrator.words.store import ArtifactStore, Part, SignedPart, Upload

MIB = 1024 * 1024


@dataclass(frozen=True)
class Served:
    """One kind of store, served: `open` builds a fresh adapter on it, as a new process would."""

    kind: str
    open: Callable[[], ArtifactStore]
    part_bytes: int
    refuses_bad_parts: bool  # False: a wrong part is found out at complete


def payload(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress and do not repeat."""
    return random.Random(seed).randbytes(size)


def cut(data: bytes, part_bytes: int) -> list[Part]:
    """The parts of a file, with the checksums that a machine would report."""
    starts = range(0, len(data), part_bytes) if data else [0]
    blocks = [(n, at, data[at : at + part_bytes]) for n, at in enumerate(starts, start=1)]
    return [Part(n, at, len(b), _base64(zlib.crc32(b).to_bytes(4, "big")), _base64(md5(b))) for n, at, b in blocks]


def md5(data: bytes) -> bytes:
    """What Content-MD5 is made of."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def begin(store: ArtifactStore, name: str, data: bytes) -> Upload:
    """Open an upload of these bytes."""
    return store.begin(name, len(data), hashlib.sha256(data).hexdigest())


def put(signed: SignedPart, data: bytes, timeout_s: float = 20) -> httpx.Response:
    """Send a part as the machine does: no credentials, only the URL and its headers."""
    part = signed.part
    body = data[part.offset : part.offset + part.length]
    sent = {"Content-Type": "application/octet-stream", **signed.headers}
    return httpx.put(signed.url, content=body, headers=sent, timeout=timeout_s)


def send(store: ArtifactStore, upload: Upload, parts: list[Part], data: bytes) -> None:
    """Sign and send parts; each must be accepted."""
    for signed in store.sign(upload, parts):
        reply = put(signed, data)
        assert reply.status_code in signed.accept, reply.text


def fetched(source: Source, file: SourceFile) -> bytes:
    """A file as a machine gets it."""
    signed = source.signed_get(file)
    return httpx.get(signed.url, headers=signed.headers, timeout=20).raise_for_status().content


def upload(store: ArtifactStore, name: str, data: bytes) -> Upload:
    """A whole upload, from begin to complete."""
    opened = begin(store, name, data)
    parts = cut(data, opened.part_bytes)
    send(store, opened, parts, data)
    store.complete(opened, parts)
    return opened
