"""The road of a provider's requests, on which somebody notes what came back: shapes and figures, nobody's secrets."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from typing import Any

import httpx

from orchestrator.words import web
from orchestrator.words.access import ProviderAccess
from orchestrator.words.provider import MACHINE_PREFIX

# Texts that are the vendor's own words; every other text may be an id, a name, an address or a secret.
KEPT = frozenset({
    "status", "dataCenter", "dataCenterId", "type", "image", "cloud", "stockStatus", "protocol", "source_network",
    "code", "title", "manufacturer", "region", "actions", "detail",
})  # fmt: skip
HIDDEN = "..."
PRIVATE = re.compile(r"ssh-keys|billing|\bmyself\b")  # keys, sums and balances are the account's own matter
IDENTITY = re.compile(r"(?=[^/]*[0-9])[0-9A-Za-z_-]{8,}")  # a part of a path that names one thing
MOST_ROWS, MOST_REPLIES, LONGEST_WORDS = 40, 60, 120


class Wire(httpx.BaseTransport):
    """Carries requests as they are; of the answers one of each kind is kept, without ids, addresses and secrets."""

    def __init__(self) -> None:
        self._client: httpx.Client | None = None
        self._kept: dict[tuple[str, int, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def amend(self, access: ProviderAccess) -> ProviderAccess:
        """That way to a provider, over this road, on which it asks for what is not known yet."""
        return replace(access, transport=self, explores=True)

    @property
    def replies(self) -> tuple[dict[str, Any], ...]:
        """What was kept, in the order in which it came first."""
        with self._lock:
            return tuple(self._kept.values())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx."""
        answer = self._road(str(request.url)).send(request, stream=True)
        if "json" not in answer.headers.get("Content-Type", ""):
            return httpx.Response(answer.status_code, headers=answer.headers, stream=_Stream(answer))
        try:
            body = answer.read()
        finally:
            answer.close()
        self._keep(request, answer.status_code, body)
        said = {k: v for k, v in answer.headers.items() if k.lower() not in {"content-encoding", "content-length"}}
        return httpx.Response(answer.status_code, headers=said, content=body)

    def close(self) -> None:
        """Nothing: whoever closes one client has others on this road."""

    def _road(self, url: str) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = web.client(url)
            return self._client

    def _keep(self, request: httpx.Request, status: int, body: bytes) -> None:
        asked = request.content.decode(errors="replace") if request.url.path.endswith("graphql") else ""
        if PRIVATE.search(f"{request.url.path} {asked}"):
            return
        try:
            found = json.loads(body)
        except ValueError:
            return
        path = "/".join("{id}" if IDENTITY.fullmatch(part) else part for part in request.url.path.split("/"))
        shown, words = scrubbed(found), _status(found)
        with self._lock:
            if len(self._kept) < MOST_REPLIES:
                kept = {"request": f"{request.method} {path}", "status": status, "body": shown}
                self._kept[kept["request"], status, words] = kept


class _Stream(httpx.SyncByteStream):
    """The rest of an answer that may never end, as it comes."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Any:
        return self._answer.iter_raw()

    def close(self) -> None:
        self._answer.close()


def scrubbed(found: Any, key: str = "") -> Any:
    """A reply's shape and figures: of texts only the vendor's own words, of named rows only ours."""
    if isinstance(found, dict):
        # Keys of a map may be names too: those that are no plain word are hidden.
        return {(k if k.isidentifier() else HIDDEN): scrubbed(value, k) for k, value in found.items()}
    if isinstance(found, list):
        return [scrubbed(row, key) for row in found if not _is_strange(row)][:MOST_ROWS]
    if isinstance(found, str):
        return found if key in KEPT and len(found) < LONGEST_WORDS else HIDDEN
    return found


def _is_strange(row: Any) -> bool:
    """Whether it is a thing of the account that gpuplan did not make."""
    return isinstance(row, dict) and not str(row.get("name", MACHINE_PREFIX)).startswith(MACHINE_PREFIX)


def _status(found: Any) -> str:
    inner = found.get("data", found) if isinstance(found, dict) else None
    return str(inner.get("status", "")) if isinstance(inner, dict) else ""
