"""What the model hub says a repository holds: the measure for every download, since `hf download` checks nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin

import httpx

from orchestrator.transport.shapes import Count, Path, Sum, json_in, shaped
from orchestrator.words import web
from orchestrator.words.errors import ProviderUnavailable, UsageError
from orchestrator.words.outside import quoted
from orchestrator.words.secret import Secret, hide

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
TOKEN = "HF_TOKEN"  # noqa: S105 - the name of the variable, not a token
MAX_PAGES = 1000
LONGEST_ANSWER = 16 << 20  # bytes of one page


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository at one commit. `sha256` is None for small files, which the hub keeps in git."""

    path: str
    bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Large:
    """What the hub keeps outside git."""

    size: Count
    oid: Sum


@dataclass(frozen=True, slots=True)
class Row:
    """One file as the hub lists it."""

    path: Path
    size: Count
    lfs: Large | None = None

    @property
    def file(self) -> HubFile:
        """What is to be on the machine."""
        return HubFile(self.path, self.lfs.size if self.lfs else self.size, self.lfs.oid if self.lfs else None)


class Hub:
    """A Hugging Face hub, read only. Errors: UsageError with what to do, ProviderUnavailable for what may pass."""

    def __init__(self, url: str, token: Secret | None, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        self._token = token
        headers = {"User-Agent": "gpuplan"}
        if token:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        self._client = web.client(url, transport, headers=headers, timeout=TIMEOUT, follow_redirects=True)

    def commit(self, repo: str, revision: str = "main") -> str:
        """The commit that this branch, tag or commit of the repository is now."""
        commit, _ = self._get(repo, f"{self._url}/api/models/{quote(repo)}/revision/{quote(revision, safe='')}")
        sha = str(commit.get("sha")) if isinstance(commit, dict) else ""
        if not re.fullmatch(r"[0-9a-f]{6,64}", sha):
            raise ProviderUnavailable(f"{self._url}: the answer for {repo} names no commit")
        return str(sha)

    def files(self, repo: str, commit: str) -> list[HubFile]:
        """Every file of the repository at that commit, by path."""
        tree = f"{self._url}/api/models/{quote(repo)}/tree/{quote(commit, safe='')}"
        url: str | None = f"{tree}?recursive=true&expand=false"
        found: list[HubFile] = []
        for _ in range(MAX_PAGES):
            if url is None:
                return sorted(found, key=lambda f: f.path)
            rows, following = self._get(repo, url)
            url = self._of_this_hub(url, following) if following else None
            try:
                found += [shaped(Row, row).file for row in rows if row.get("type") == "file"]
            except (ValueError, TypeError, AttributeError) as error:
                raise ProviderUnavailable(f"{self._url}: the list of {repo} makes no sense: {error}") from error
        raise ProviderUnavailable(f"{self._url}: the list of {repo} has no end")

    def _get(self, repo: str, url: str) -> tuple[Any, str | None]:
        """A parsed answer and the address of its next page."""
        try:
            with self._client.stream("GET", url) as reply:
                text = self._body(repo, reply)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise ProviderUnavailable(f"{self._url}: no answer for {repo}: {error or type(error).__name__}") from error
        if reply.status_code != 200:
            raise self._refusal(repo, reply, text)
        try:
            return json_in(text), reply.links.get("next", {}).get("url")
        except ValueError as error:
            raise ProviderUnavailable(f"{self._url}: the answer for {repo} is not JSON") from error

    def _body(self, repo: str, reply: httpx.Response) -> bytes:
        """What it says. ProviderUnavailable: more than makes sense."""
        found = bytearray()
        for block in reply.iter_bytes():
            found += block
            if len(found) > LONGEST_ANSWER:
                raise ProviderUnavailable(f"{self._url}: the answer for {repo} has no end")
        return bytes(found)

    def _of_this_hub(self, base: str, said: str) -> str:
        """What is said at `base` as an address at the hub itself.

        ProviderUnavailable: it is none, or elsewhere, where the token does not go.
        """
        try:
            url = urljoin(base, said)
            here, there = httpx.URL(self._url), httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise ProviderUnavailable(f"{self._url}: the next page has no address") from error
        if (here.scheme, here.host, here.port) != (there.scheme, there.host, there.port):
            raise ProviderUnavailable(
                f"{self._url}: the next page would be at {quoted(there.host)}: nothing is sent there"
            )
        return url

    def _refusal(self, repo: str, reply: httpx.Response, text: bytes) -> UsageError | ProviderUnavailable:
        status = reply.status_code
        words = quoted(
            hide(reply.headers.get("X-Error-Message") or web.readable(text[:4000].decode("utf-8", "replace")))
        )
        page = f"{self._url}/{repo}"
        if reply.headers.get("X-Error-Code") == "GatedRepo" or status == 403:
            if self._token:
                return UsageError(
                    f"{repo} is gated, and the account behind {TOKEN} has no access to it ({status})",
                    remedy=f"ask for access at {page}; a fine-grained token also needs the right to read gated ones",
                )
            return UsageError(f"{repo} is gated ({status})", remedy=_needs_token(page))
        if status == 401 and self._token:
            return UsageError(
                f"the hub does not know the token in {TOKEN}, or {repo} does not exist (401)",
                remedy=f"make a new token at {self._url}/settings/tokens, and see whether {page} opens",
            )
        if status == 401:
            return UsageError(f"{repo} is private, or does not exist (401)", remedy=_needs_token(page))
        if status == 404:
            return UsageError(
                f"the hub has no {repo} at that revision (404): {words}", remedy=f"see whether {page} opens"
            )
        message = f"{self._url}: {repo} was answered with {status}: {words}"
        return ProviderUnavailable(message, retry_after=_seconds(reply.headers.get("Retry-After", "")))


def _needs_token(page: str) -> str:
    return f"accept its terms at {page}, then export {TOKEN} with a token from an account that may read it"


def _seconds(value: str) -> float | None:
    return min(float(value), 3600.0) if re.fullmatch(r"[0-9]{1,9}", value.strip()) else None
