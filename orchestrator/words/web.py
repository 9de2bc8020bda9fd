"""What all our HTTP clients share: proxies of the user's environment, and the words of a page that is no answer."""

from __future__ import annotations

import html
import ipaddress
import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.words.errors import UsageError

if TYPE_CHECKING:
    import ssl

    import httpx

PROXIES = ("all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")
_UNSEEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


def client(url: str | None, transport: httpx.BaseTransport | None = None, **options: Any) -> httpx.Client:
    """A client for that address (None: anything on the internet): no proxy stands before this computer itself.

    `transport` carries every request instead of a socket. UsageError: the user's proxy cannot be used.
    """
    import httpx

    here = url is not None and is_loopback(url)
    try:
        of_user = transport is None and not here
        return httpx.Client(transport=transport, trust_env=of_user, verify=_authorities(of_user), **options)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        named = next((f"{name}={os.environ[name]}" for name in PROXIES if os.environ.get(name)), "a proxy")
        raise UsageError(
            f"{named} cannot be used: {str(error).split(' Make sure')[0]}",
            remedy="a socks proxy needs `pip install httpx[socks]`; or unset it",
        ) from error


@cache
def _authorities(trust_env: bool) -> ssl.SSLContext:  # noqa: FBT001  httpx's own word
    """Whom to believe who a server is: read once a process, since reading it takes as long as a short request."""
    import httpx

    return httpx.create_ssl_context(trust_env=trust_env)


def is_loopback(url: str) -> bool:
    """Whether the address is this computer's own."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def readable(body: str) -> str:
    """What a body says to a person: of a page its title and its text, without tags."""
    if not re.search(r"<(!doctype|html|head|body|title|h1)\b", body, re.IGNORECASE):
        return body.strip()
    title = _TITLE.search(body)
    text = _TAG.sub(" ", _UNSEEN.sub(" ", body))
    words = [html.unescape(" ".join(part.split())) for part in (title.group(1) if title else "", text)]
    return ": ".join(dict.fromkeys(word for word in words if word))
