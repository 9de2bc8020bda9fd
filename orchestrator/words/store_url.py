"""Where artifacts go, as one text: `s3://bucket/prefix`, with the address of a store that is not Amazon's behind a `?`.

One text, because a run, its ledger, its preview and the terms of a plan know a store by it: another address is another
store, wherever it is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from orchestrator.words import web
from orchestrator.words.errors import UsageError

OPTIONS = ("endpoint_url", "region", "addressing")
ADDRESSING = ("path", "virtual")
_OF_USER = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # what Amazon's own tools read, the first one first
_REGIONS = ((r".*\.r2\.cloudflarestorage\.com", "auto"), (r"s3\.([a-z0-9-]+)\.backblazeb2\.com", r"\1"))


@dataclass(frozen=True, slots=True)
class StoreText:
    """Marks a store's URL, which a file may write as keys and values too (config/store_keys.py makes one text)."""

    def __get_pydantic_json_schema__(self, _schema: object, _handler: object) -> dict[str, object]:
        """What an editor should accept: a URL, or one with the address of a store that is not the vendor's own."""
        text = {"type": "string"}
        keys = {"url": text, **dict.fromkeys(OPTIONS, text), "addressing": {"enum": list(ADDRESSING)}}
        other = {"type": "object", "properties": keys, "required": ["url", "endpoint_url"]}
        return {"anyOf": [text, {**other, "additionalProperties": False}]}


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A store's URL, taken apart. `endpoint_url` None: the vendor's own; `region` None: not said."""

    plain: str  # scheme://bucket/prefix
    endpoint_url: str | None = None
    region: str | None = None
    virtual: bool = False  # the bucket is in the host's name, not in the path

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.plain} at {self.endpoint_url}" if self.endpoint_url else self.plain


def read_place(url: str) -> StorePlace:
    """Take a store's URL apart. UsageError: what follows the `?` is not understood, or no address to be sent to."""
    plain, asked, query = url.partition("?")
    if not url.startswith("s3://"):
        if asked and url.startswith("gs://"):
            raise UsageError(f"{plain} has no address of its own", remedy="endpoint_url is for stores of s3://")
        return StorePlace(url)
    try:
        said = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        said = {query: ""}
    if unknown := [name for name in said if name not in OPTIONS]:
        raise UsageError(f"{plain}: {unknown[0]!r} means nothing for a store", remedy=f"known: {', '.join(OPTIONS)}")
    if (how := said.get("addressing", "path")) not in ADDRESSING:
        raise UsageError(f"{plain}: addressing is {' or '.join(ADDRESSING)}, not {how!r}")
    endpoint = said.get("endpoint_url")
    if endpoint is None:
        if said:
            raise UsageError(f"{plain}: {next(iter(said))} belongs to a store with an endpoint_url")
        return StorePlace(plain)
    if not _may_be_sent_to(endpoint):
        shown = "***" if "@" in endpoint else endpoint  # there may be a password in it
        raise UsageError(
            f"{plain}: {shown} is no address of a store",
            remedy="write endpoint_url: https://HOST, without a bucket, a path or a password in it",
        )
    return StorePlace(plain, endpoint.rstrip("/"), said.get("region") or _region(endpoint), how == "virtual")


def store_url(url: str, options: Mapping[str, str]) -> str:
    """The one text for a URL and what is said beside it."""
    return f"{url}?{urlencode(options, safe=':/[]')}" if options else url


def of_user(url: str, environ: Mapping[str, str]) -> str:
    """A URL that names no address, with the one of the user's own environment if there is one."""
    place = read_place(url)
    ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    found = next((environ[name] for name in _OF_USER if environ.get(name)), "")
    if ignored or not found or place.endpoint_url or not url.startswith("s3://"):
        return url
    if not _may_be_sent_to(found):
        raise UsageError("AWS_ENDPOINT_URL_S3 holds no address of a store", remedy="write https://HOST")
    return store_url(place.plain, {"endpoint_url": found.rstrip("/")})


def _may_be_sent_to(endpoint: str) -> bool:
    """Whether signed requests may go there: by TLS, or to this computer itself."""
    try:
        parts = urlsplit(endpoint)
        parts.port  # noqa: B018  it is read from the text only now
    except ValueError:
        return False
    bare = parts.hostname and parts.username is None and parts.path in {"", "/"} and not parts.query + parts.fragment
    known = re.fullmatch(r"[a-z0-9.:\[\]-]+", parts.netloc) is not None
    return bool(bare and known and (parts.scheme == "https" or (parts.scheme == "http" and web.is_loopback(endpoint))))


def _region(endpoint: str) -> str | None:
    """The region that the vendor's own host names; None: it names none."""
    host = urlsplit(endpoint).hostname or ""
    return next((found.expand(name) for form, name in _REGIONS if (found := re.fullmatch(form, host))), None)
