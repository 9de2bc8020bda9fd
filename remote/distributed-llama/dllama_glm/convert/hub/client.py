"""Reading from a Hugging Face hub over HTTP: the token goes to the hub's own origin only, patience has a bound."""

import http.client
import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from dllama_glm.convert.errors import HubError
from dllama_glm.convert.hub.refusals import refusal

T = TypeVar("T")

_TIMEOUT = 30.0  # seconds without a byte
_TRIES = 10  # in a row, without a byte of progress: five minutes, as long as a hub counts requests together
_LONGEST_PAUSE = 60.0
_LONGEST_ASKED = 300.0  # what the hub may ask for with Retry-After
_BLOCK = 1 << 20
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}
_PORTS = {"http": 80, "https": 443}
_WEB = ("http", "https")


class Passing(Exception):
    """What may go away by itself: a cut connection, a busy hub. `pause`: what the hub asks to wait, in seconds."""

    def __init__(self, words: str, pause: float | None = None) -> None:
        super().__init__(words)
        self.pause = pause


class Stopped(Exception):
    """The conversion ends; whoever reads from the hub gives up."""


class Client:
    """Reads from one hub. Safe to use from several threads. Every method raises HubError, or Stopped after `stop`."""

    def __init__(self, endpoint: str, token: str | None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        self._stopped = threading.Event()
        self._opener = urllib.request.build_opener(_Redirects)

    def stop(self) -> None:
        """End every reading and waiting soon."""
        self._stopped.set()

    def document(self, address: str) -> tuple[Any, str | None]:
        """A JSON document, and the address of its next page (None: it was the last)."""

        def attempt() -> tuple[Any, str | None]:
            with self._open(address) as reply:
                text, link = reply.read(), reply.headers.get("Link")
            return json.loads(text), _next(link)

        try:
            return self._insist(address, attempt)
        except ValueError:
            raise HubError(f"{self.endpoint}{address}: the answer is not JSON: is {self.endpoint} a hub?") from None

    def whole(self, address: str) -> bytes:
        """All of a small file."""

        def attempt() -> bytes:
            with self._open(address) as reply:
                body: bytes = reply.read()
            return body

        return self._insist(address, attempt)

    def part(self, address: str, first: int, end: int) -> bytes:
        """Bytes `first` to `end` (exclusive) of a file."""
        return b"".join(self.blocks(address, first, end))

    def blocks(self, address: str, first: int, end: int) -> Iterator[bytes]:
        """The same piece by piece; a connection that breaks off is gone on with where it ended."""
        at, failures = first, 0
        while at < end:
            try:
                for block in self._range(address, at, end):
                    yield block
                    at, failures = at + len(block), 0
                if at < end:
                    raise Passing(f"ended at byte {at:,} of {end:,}")
            except Passing as trouble:
                failures += 1
                self._wait(address, trouble, failures)

    def _range(self, address: str, first: int, end: int) -> Iterator[bytes]:
        with self._open(address, {"Range": f"bytes={first}-{end - 1}"}) as reply:
            given = reply.headers.get("Content-Range", "")
            if reply.status != http.client.PARTIAL_CONTENT or not given.startswith(f"bytes {first}-"):
                raise HubError(
                    f"{self.endpoint}{address}: asked for bytes {first} to {end}, got {given or 'another part'}"
                )
            left = end - first
            while left and (block := self._read(reply, min(left, _BLOCK))):
                left -= len(block)
                yield block

    def _read(self, reply: Any, count: int) -> bytes:
        if self._stopped.is_set():
            raise Stopped
        try:
            block: bytes = reply.read(count)
        except (OSError, http.client.HTTPException) as error:
            raise Passing(f"broke off: {error or type(error).__name__}") from None
        return block

    def _insist(self, address: str, attempt: Callable[[], T]) -> T:
        failures = 0
        while True:
            try:
                return attempt()
            except Passing as trouble:
                failures += 1
                self._wait(address, trouble, failures)
            except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
                failures += 1
                self._wait(address, Passing(f"broke off: {error or type(error).__name__}"), failures)

    def _wait(self, address: str, trouble: Passing, failures: int) -> None:
        if failures == _TRIES:
            raise HubError(
                f"{self.endpoint}{address}: {trouble} ({_TRIES} times in a row): see whether the hub can be reached, "
                "and run the same command again: it goes on where it stopped"
            ) from trouble
        asked = None if trouble.pause is None else min(trouble.pause, _LONGEST_ASKED)
        if self._stopped.wait(min(2.0**failures, _LONGEST_PAUSE) if asked is None else asked):
            raise Stopped

    def _open(self, address: str, headers: Mapping[str, str] | None = None) -> Any:
        """Open `address`, a path of the hub or a whole URL. Raises Passing or HubError."""
        try:
            url = urljoin(self.endpoint + "/", address)
            known = urlsplit(url).scheme in _WEB
        except ValueError:  # half of an IPv6 address
            url, known = address, False
        if not known:
            raise HubError(f"{url}: is no address of a hub (HF_ENDPOINT begins with https:// or http://)")
        request = urllib.request.Request(url, headers={"User-Agent": "dllama-glm", **(headers or {})})  # noqa: S310 - checked above
        if self._token and _origin(url) == _origin(self.endpoint):
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            return self._opener.open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in _PASSING_STATUS:
                    raise Passing(f"answered {error.code}", _seconds(error.headers.get("Retry-After"))) from None
                raise refusal(self.endpoint, address, error, self._token) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise HubError(f"{url}: its certificate is not to be trusted: {error.reason}") from None
            raise Passing(f"cannot be reached: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Passing(f"cannot be reached: {error or type(error).__name__}") from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the token goes along within one origin only, and is lost for good at another."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in _WEB or (req.type == "https" and urlsplit(newurl).scheme == "http"):
            raise HubError(f"{req.full_url}: leads to {newurl}, which is no safe place to follow it to")
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if followed is not None and token and _origin(newurl) == _origin(req.full_url):
            followed.add_unredirected_header("Authorization", token)
        return followed


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)


def _next(link: str | None) -> str | None:
    """The address that a Link header calls the next page."""
    for part in (link or "").split(","):
        address, _, relation = part.partition(";")
        if 'rel="next"' in relation:
            return address.strip().removeprefix("<").removesuffix(">")
    return None


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.strip().isdigit() else None
