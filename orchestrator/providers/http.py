"""One HTTP client for every cloud's REST API: a status, a broken connection or half a body becomes an error of ours.

The methods differ in what a failure means, and nothing that changes something is sent twice:
  read     nothing was to change: it is sent up to three times within seconds; whatever is not an answer then may pass
           (ProviderUnavailable) or is the account's fault
  create   a definite no is Refused, an answer that never came or makes no sense is Ambiguous; what could not be sent
           at all (a key that no header takes) is AccountRefused for all three
  destroy  gone is as good as ended; everything else may pass
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache, partial, wraps
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ParamSpec, TypeVar

import httpx

from orchestrator.words import web
from orchestrator.words.access import ProviderAccess
from orchestrator.words.errors import (
    AccountRefused,
    Ambiguous,
    GpuplanError,
    NoCapacity,
    ProviderUnavailable,
    Refused,
    RequestRefused,
)
from orchestrator.words.outside import quoted
from orchestrator.words.secret import mask

P = ParamSpec("P")
T = TypeVar("T")

READ_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
CREATE_TIMEOUT = httpx.Timeout(90.0, connect=10.0)  # placing a machine takes a vendor up to a minute
WORDS_SHOWN = 400
LONGEST_PAUSE_S = 3600.0  # that a vendor may ask for
NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)  # nothing was sent

LISTEN_S, LINES_HEARD, LONGEST_EVENT = 5.0, 4000, 4000  # of a stream that never ends by itself
AGAIN_AFTER_S = (0.5, 2.0)  # pauses before a read is sent again, in the cloud's time
AGAIN_WITHIN_S = 15.0  # real seconds after its first try: a vendor that does not even answer is not asked on and on

REMEDIES = {
    401: "the API key is missing, wrong or expired: make a new one",
    402: "the account's balance is too low: add credit",
    403: "the API key or the account may not do this: check the key's scope",
}
FRONT_DOOR = "not the API but what stands before it refused: a proxy on the way, or this network, is turned away"

# No vendor has a code for "sold out" that all its servers send: these are the texts seen in the field.
CAPACITY_WORDS = (
    "no longer any instances available",
    "no instances available",
    "does not have the resources to deploy your pod",
    "no capacity",
    "not enough capacity",
    "insufficient-capacity",
    "out of stock",
    "insufficient resources",
)


@cache
def user_agent() -> str:
    """The name that every request carries: RunPod's front door turns library defaults away."""
    try:
        return f"gpuplan/{version('gpuplan')}"
    except PackageNotFoundError:
        return "gpuplan/0"


def speaks_of_capacity(words: str) -> bool:
    """Whether a refusal's text says that machines are sold out."""
    lowered = words.lower()
    return any(text in lowered for text in CAPACITY_WORDS)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `body` is parsed JSON (numbers with a point as Decimal), None where it is empty or not JSON."""

    status: int
    body: Any
    text: str
    retry_after: float | None

    @property
    def ok(self) -> bool:
        """A 2xx."""
        return 200 <= self.status < 300


def sensible(ask: Callable[P, T]) -> Callable[P, T]:
    """Make of a method that reads answers one for which an answer of another shape is ProviderUnavailable."""

    @wraps(ask)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return ask(*args, **kwargs)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            words = quoted(f"{type(error).__name__}: {error}")
            raise ProviderUnavailable(f"the provider's answer makes no sense: {words}") from error

    return asked


class RateLimited(ProviderUnavailable):
    """A 429: the request was turned away unread, whatever it was."""


def persistently(access: ProviderAccess, ask: Callable[[], T]) -> T:
    """Ask for something that changes nothing, again after what may pass: one hiccup in a bundle is not the end of it.

    A 429 is raised at once: the pacer knows how long to wait.
    """
    give_up = access.now() + AGAIN_WITHIN_S
    for pause in AGAIN_AFTER_S:
        try:
            return ask()
        except RateLimited:
            raise
        except ProviderUnavailable as error:
            if access.now() > give_up or (error.retry_after or 0.0) > pause:
                raise
        access.sleep(pause * access.time_scale)
    return ask()


class Api:
    """One vendor's REST API. `words` finds code and message in an error body; safe to use from several threads."""

    def __init__(
        self,
        vendor: str,
        base_url: str,
        access: ProviderAccess,
        words: Callable[[Any], str],
    ) -> None:
        self.vendor = vendor
        self._access = access
        self._key = access.api_key
        self._now = access.now
        self._words = words
        self.policy = ""  # the RateLimit-Policy of the last answer that had one
        self._client = web.client(
            base_url,
            access.transport,
            base_url=base_url.rstrip("/") + "/",
            headers={"User-Agent": user_agent(), "Authorization": f"Bearer {access.api_key.reveal()}"},
            timeout=READ_TIMEOUT,
            follow_redirects=False,  # a redirect can drop the body or the key
        )

    def read(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """GET a JSON document; None: the vendor says that there is no such thing (404)."""
        return persistently(self._access, partial(self._read, path, params))

    def _read(self, path: str, params: Mapping[str, str] | None) -> Any:
        reply = self._send_safely("GET", path, params=params)
        if reply.status == 404:
            return None
        if reply.ok and reply.body is not None:
            return reply.body
        if reply.ok:
            raise ProviderUnavailable(f"{self.vendor}: GET {path} was answered with something that is not JSON")
        raise self._failure(reply, f"GET {path}")

    def create(
        self, path: str, body: Mapping[str, Any], *, barred: Callable[[int, str], bool] = lambda _status, _words: False
    ) -> Any:
        """POST once and return the JSON answer. See the module for what the errors mean.

        ProviderUnavailable: nothing was created either (429, or the vendor could not be connected to).
        `barred` knows the status and words by which this vendor says that only this kind of machine is: NoCapacity.
        """
        try:
            reply = self._send("POST", path, body=body, timeout=CREATE_TIMEOUT)
        except NOT_CONNECTED as error:
            raise ProviderUnavailable(f"{self.vendor} cannot be reached, nothing was sent: {error}") from error
        except httpx.RequestError as error:
            raise Ambiguous(f"{self.vendor}: no answer to POST {path}: {_reason(error)}") from error
        if reply.ok and reply.body is not None:
            return reply.body
        if reply.ok or reply.status >= 500:
            raise Ambiguous(f"{self.vendor}: POST {path} ended in {reply.status}: {self._say(reply)}")
        words = self._say(reply)
        closed = reply.body is not None and barred(reply.status, words)  # a page without JSON is the front door's
        if reply.status in {401, 402, 403, 429} and not closed:
            raise self._failure(reply, f"POST {path}")
        kind: type[Refused] = NoCapacity if closed or speaks_of_capacity(words) else Refused
        if reply.status == httpx.codes.UNPROCESSABLE_ENTITY:
            kind = RequestRefused
        raise kind(f"{self.vendor} refused POST {path} ({reply.status}): {words}")

    def destroy(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send one request that ends something; None: the vendor knows no such thing (404), else its answer."""
        reply = self._send_safely(method, path, body=body)
        if reply.status == 404:
            return None
        if not reply.ok:
            raise self._failure(reply, f"{method} {path}")
        return reply.body if reply.body is not None else {}

    def listen(
        self, path: str, params: Mapping[str, str], *, enough: Callable[[str], bool] = lambda _line: False
    ) -> list[str]:
        """The lines of a stream that come within LISTEN_S, or until one is `enough`; whatever goes wrong ends them."""
        lines: list[str] = []
        give_up = self._now() + LISTEN_S
        with (
            suppress(httpx.RequestError, httpx.StreamError),
            self._client.stream("GET", path, params=params, timeout=LISTEN_S) as answer,
        ):
            for line in answer.iter_lines() if answer.is_success else ():
                lines.append(line[:LONGEST_EVENT])
                if self._now() > give_up or len(lines) > LINES_HEARD or enough(line):
                    break
        return lines

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._client.close()

    def _send_safely(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Reply:
        try:
            return self._send(method, path, params=params, body=body)
        except httpx.RequestError as error:
            raise ProviderUnavailable(f"{self.vendor}: no answer to {method} {path}: {_reason(error)}") from error

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout: httpx.Timeout = READ_TIMEOUT,
    ) -> Reply:
        try:
            answer = self._client.request(method, path, params=params, json=body, timeout=timeout)
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:
            raise AccountRefused(
                f"{self.vendor}: {method} {path} cannot be sent, and was not: {_reason(error)}",
                remedy="the API key or the address holds what no request may",
            ) from error
        self.policy = answer.headers.get("RateLimit-Policy", self.policy)
        return _reply(answer, self._now())

    def _say(self, reply: Reply) -> str:
        words = self._words(reply.body) if reply.body is not None else web.readable(reply.text)
        return quoted(mask(words, [self._key]), WORDS_SHOWN) or "(no words)"

    def _failure(self, reply: Reply, what: str) -> GpuplanError:
        words = self._say(reply)
        if reply.status in {401, 402, 403}:
            remedy = FRONT_DOOR if reply.status == 403 and reply.body is None else REMEDIES[reply.status]
            return AccountRefused(f"{self.vendor} refused {what} ({reply.status}): {words}", remedy=remedy)
        kind = RateLimited if reply.status == 429 else ProviderUnavailable
        message = f"{self.vendor}: {what} was answered with {reply.status}: {words}"
        return kind(message, retry_after=reply.retry_after)


def _reply(answer: httpx.Response, now: float) -> Reply:
    return Reply(answer.status_code, _parse(answer.text), answer.text, _retry_after(answer.headers, now))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds, from either form of the header; at most LONGEST_PAUSE_S."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:18]), LONGEST_PAUSE_S)
    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - now), LONGEST_PAUSE_S)
    except (TypeError, ValueError, OverflowError):
        return None
