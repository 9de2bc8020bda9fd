"""A file at an https address that needs no login: asked for its size here, fetched by the machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from orchestrator.words import web
from orchestrator.words.errors import StepFailed, StoreBusy, StoreUnavailable, UsageError
from orchestrator.words.outside import quoted
from orchestrator.words.source import SignedGet, SourceFile
from orchestrator.words.store import StoredObject

TIMEOUT_S = 30.0
MOVED = (301, 302, 303, 307, 308)
REDIRECTS = 5
NOTHING = (404, 410)
CLOSED = (401, 403, 407, 451)
PLAIN = {"Accept-Encoding": "identity", "User-Agent": "gpuplan"}  # the very bytes, packed by nobody on the way


@dataclass(frozen=True, slots=True)
class _Said:
    """What a server says of a file. `bytes` None: it does not say; `ranges`: it sends parts of it."""

    bytes: int | None
    etag: str
    ranges: bool


class HttpsSource:
    """`Source` of one file. `sha256`: what it must be; "": what its server says of it tells its content."""

    def __init__(self, url: str, sha256: str = "") -> None:
        self.url, self._sha256 = url, sha256
        self._http = web.client(url, timeout=httpx.Timeout(TIMEOUT_S, connect=10.0), headers=PLAIN)
        self._last: _Said | None = None

    def listing(self) -> list[SourceFile]:
        """See Source. StepFailed: nobody says how large it is."""
        said = self._ask()
        if said is None:
            return []
        if said.bytes is None:
            raise StepFailed(f"{self.url}: its server does not say how large it is", remedy="put it into a store")
        name = unquote(urlsplit(self.url).path.rpartition("/")[2]) or "file"
        return [SourceFile(name, self.url, said.bytes, self._sha256 or said.etag)]

    def about(self, file: SourceFile) -> StoredObject | None:
        """See Source."""
        found = self.listing()
        if not found or found[0].etag != file.etag:
            return None
        return StoredObject(file.key, found[0].bytes, None, self._sha256 or None)

    def signed_get(self, file: SourceFile) -> SignedGet:
        """See Source. Nothing is signed: the address is anybody's."""
        said = self._last or self._ask()
        etag = "" if self._sha256 or said is None else said.etag
        return SignedGet(file.key, PLAIN, follow=True, ranges=said is None or said.ranges, etag=etag)

    def _ask(self) -> _Said | None:
        """What the server says of the file; None: there is none. It is asked for a byte where its head says too little.

        UsageError: it is not for everybody. StoreUnavailable: nobody answers.
        """
        reply = self._request("HEAD", {})
        found = _read(reply) if reply.is_success else None
        if found is None or found.bytes is None or not found.ranges:
            reply = self._request("GET", {"Range": "bytes=0-0"})
            if reply.status_code in NOTHING:
                return None
            if reply.status_code in CLOSED:
                remedy = "machines fetch what needs no login: put it into a store of your own"
                raise UsageError(f"{self.url} answers {reply.status_code}", remedy=remedy)
            if reply.is_success:
                found = _read(reply)
            elif found is None:
                kind = StoreBusy if reply.status_code in StoreBusy.STATUSES else StoreUnavailable
                raise kind(f"{self.url} answers {reply.status_code} {reply.reason_phrase}")
        self._last = found
        return found

    def _request(self, method: str, headers: dict[str, str]) -> httpx.Response:
        """Its answer, without a body, after redirects, which lead to https alone."""
        at = self.url
        try:
            for _ in range(REDIRECTS + 1):
                with self._http.stream(method, at, headers=headers) as reply:
                    if reply.status_code not in MOVED:
                        return reply
                    at = urljoin(at, reply.headers.get("Location", ""))
                if urlsplit(at).scheme != "https":
                    raise StepFailed(f"{self.url} leads to {quoted(at.partition('?')[0])}, which is no https")
        except (httpx.RequestError, httpx.InvalidURL, ValueError) as error:
            raise StoreUnavailable(f"{self.url} cannot be reached: {error or type(error).__name__}") from error
        raise StepFailed(f"{self.url} leads on and on: more than {REDIRECTS} redirects")


def _read(reply: httpx.Response) -> _Said:
    etag = reply.headers.get("ETag") or reply.headers.get("Last-Modified", "")
    if reply.status_code == 206:
        whole = re.fullmatch(r"bytes 0-0/([0-9]{1,18})", reply.headers.get("Content-Range", ""))
        return _Said(int(whole[1]) if whole else None, etag, ranges=True)
    length = reply.headers.get("Content-Length", "")
    size = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
    return _Said(size, etag, ranges=reply.headers.get("Accept-Ranges", "").lower() == "bytes")
