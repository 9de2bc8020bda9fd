"""Artifact stores by URL. The controller holds the credentials; the machine only ever gets signed requests."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import urlsplit

from orchestrator.words.errors import UsageError
from orchestrator.words.secret import Secret
from orchestrator.words.source import Source
from orchestrator.words.store import ArtifactStore
from orchestrator.words.store_url import read_place

__all__ = ["SOURCES", "STORES", "StoreAccess", "open_source", "open_store"]

STORES: dict[str, str] = {
    "s3": "orchestrator.storage.s3:S3Store",
    "gs": "orchestrator.storage.gcs:GcsStore",
    "file": "orchestrator.storage.directory:DirectoryStore",
}
SIGNING = ("s3", "gs")  # stores whose objects machines can fetch
SOURCES = (*SIGNING, "https")


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """How to reach a store. All None: the vendor's own address, and credentials as its tools find them."""

    endpoint: str | None = None
    access_key: str | None = None  # S3 only
    secret_key: Secret | None = None  # S3 only
    session_token: Secret | None = None  # S3 only
    region: str | None = None  # S3 only
    project: str | None = None  # GCS only
    part_bytes: int | None = None  # None: chosen by the object's size
    url_seconds: int = 3600  # how long a signed part may be used


def open_store(url: str, access: StoreAccess | None = None) -> ArtifactStore:
    """Build the store for `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///folder`. UsageError: anything else.

    What the URL says of address and region holds where `access` says nothing else.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError:  # half of an IPv6 address
        scheme = ""
    if scheme not in STORES:
        raise UsageError(
            f"{url!r} is no artifact store", remedy="it begins with one of: " + ", ".join(f"{s}://" for s in STORES)
        )
    module, _, cls = STORES[scheme].partition(":")
    access, place = access or StoreAccess(), read_place(url)
    if access.endpoint is None:
        access = replace(access, endpoint=place.endpoint_url, region=access.region or place.region)
    store: ArtifactStore = getattr(importlib.import_module(module), cls)(url, access)
    return store


def open_source(url: str, access: StoreAccess | None = None, *, sha256: str = "") -> Source:
    """What machines fetch, at `s3://bucket/key`, `gs://bucket/key` or `https://host/file`. UsageError: anything else.

    `sha256`: what the one file there must be; "": as its store says.
    """
    scheme = url.partition("://")[0]
    if scheme not in SOURCES:
        remedy = "it begins with one of: " + ", ".join(f"{scheme}://" for scheme in SOURCES)
        raise UsageError(f"{url!r} is nothing that machines fetch from", remedy=remedy)
    if scheme not in SIGNING:
        from orchestrator.storage.https import HttpsSource

        return HttpsSource(url, sha256)
    source = cast("Source", open_store(url, access))
    if not sha256:
        return source
    from orchestrator.storage.known import KnownSource

    return KnownSource(source, sha256)
