"""Stores that settings write as keys and values: `{url: s3://bucket/prefix, endpoint_url: https://...}` is one text."""

from __future__ import annotations

from orchestrator.config.document import Mapping, Node, Scalar, Sequence
from orchestrator.config.problems import Problems, nearest
from orchestrator.words.store_url import OPTIONS, store_url

URL, ENDPOINT = "url", "endpoint_url"


def as_texts(settings: Mapping, problems: Problems) -> Mapping:
    """The settings with each store as the text that a run knows it by."""
    written = settings.get("stores")
    if not isinstance(written, Sequence):
        return settings
    stores = Sequence(written.place, tuple(_as_text(store, problems) for store in written.items))
    key, _ = settings.entries["stores"]
    return Mapping(settings.place, {**settings.entries, "stores": (key, stores)})


def _as_text(store: Node, problems: Problems) -> Node:
    if not isinstance(store, Mapping):
        return store
    said, is_sound = dict[str, str](), True
    for name, (key, value) in store.entries.items():
        if name not in (URL, *OPTIONS):
            problems.add(key.place, f"unknown key {name}", nearest(name, (URL, *OPTIONS)))
            is_sound = False
        elif not isinstance(value, Scalar):
            problems.add(value.place, f"{name} takes one value")
        else:
            said[name] = value.text
    missing = [name for name in (URL, ENDPOINT) if name not in said]
    if missing and is_sound:
        problems.add(
            store.place, f"{missing[0]} is missing", "write {url: s3://bucket/prefix, endpoint_url: https://HOST}"
        )
    return Scalar(store.place, store_url(said.pop(URL, "s3://bucket"), said if ENDPOINT in said else {}))
