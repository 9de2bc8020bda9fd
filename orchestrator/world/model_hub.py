"""What the model hub says a repository holds: the measure for every download, since `hf download` checks nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from orchestrator.words import web
from orchestrator.words.errors import ProviderUnavailable, UsageError
from orchestrator.words.secret import Secret, mask

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
TOKEN = "HF_TOKEN"  # noqa: S105 - the name of the variable, not a token
MAX_PAGES = 1000


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository at one commit. `sha256` is None for small files, which the hub keeps in git."""

    path: str
    bytes: int
    sha256: str | None


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
        sha = commit.get("sha") if isinstance(commit, dict) else None
        if not sha:
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
            rows, url = self._get(repo, url)
            found += [_file(row) for row in rows if row.get("type") == "file"]
        raise ProviderUnavailable(f"{self._url}: the list of {repo} has no end")

    def _get(self, repo: str, url: str) -> tuple[Any, str | None]:
        """A parsed answer and the address of its next page."""
        try:
            reply = self._client.get(url)
        except httpx.TransportError as error:
            raise ProviderUnavailable(f"{self._url}: no answer for {repo}: {error or type(error).__name__}") from error
        if reply.status_code != 200:
            raise self._refusal(repo, reply)
        try:
            return reply.json(), reply.links.get("next", {}).get("url")
        except ValueError as error:
            raise ProviderUnavailable(f"{self._url}: the answer for {repo} is not JSON") from error

    def _refusal(self, repo: str, reply: httpx.Response) -> UsageError | ProviderUnavailable:
        status = reply.status_code
        words = reply.headers.get("X-Error-Message") or web.readable(reply.text)[:200]
        if self._token:
            words = mask(words, [self._token])
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


def _file(row: dict[str, Any]) -> HubFile:
    lfs = row.get("lfs") or {}
    return HubFile(row["path"], int(lfs.get("size", row["size"])), lfs.get("oid"))


def _needs_token(page: str) -> str:
    return f"accept its terms at {page}, then export {TOKEN} with a token from an account that may read it"


def _seconds(value: str) -> float | None:
    return float(value) if value.strip().isdigit() else None
