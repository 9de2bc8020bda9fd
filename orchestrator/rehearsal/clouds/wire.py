"""Requests and replies of the emulated APIs as values: how they travel is somebody else's matter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request. `path` is decoded and without the query; the names of `headers` know no case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base_url: str  # scheme, host and port under which the client found us


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One HTTP reply. `reaches` is how many bytes of the body arrive before the connection is cut.

    None: all of them, and nothing is cut; 0: the client gets nothing at all, no status line either.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    reaches: int | None = None


def json_reply(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = "application/json"
) -> Reply:
    """A reply with a JSON document."""
    return Reply(
        status=status, headers={**(headers or {}), "Content-Type": content_type}, body=json.dumps(body).encode()
    )


def text_reply(status: int, text: str, content_type: str = "text/plain") -> Reply:
    """A reply in words."""
    return Reply(status=status, headers={"Content-Type": content_type}, body=text.encode())


def cut_short(status: int, body: Any) -> Reply:
    """Half of a JSON body under the length of the whole."""
    whole = json_reply(body, status)
    return Reply(status=status, headers=whole.headers, body=whole.body, reaches=len(whole.body) // 2)


def dropped() -> Reply:
    """No byte of a reply: the connection is cut."""
    return Reply(status=500, reaches=0)
