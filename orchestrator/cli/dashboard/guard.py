"""Who may ask the dashboard anything: whoever had its one link, from this computer, and no other site's page.

A page on the internet can make a browser send requests to this computer. It can neither read the link that was printed
here, nor choose the names Host and Origin that its requests carry, nor have a SameSite cookie sent with them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with none a browser would not say where a form is from
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
OPEN = frozenset({"/style.css", "/dashboard.js"})  # nothing of the user's is in them
USED = "This link has been used. gpuplan dashboard, ended and begun again, prints another one.\n"


class Guard:
    """Around an application: answers itself whatever may not come in, and lays the headers on what goes out."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._cookie = f"gpuplan-{port}"  # cookies know no ports: each dashboard has its own name
        self._token: str | None = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self.link = f"http://127.0.0.1:{port}/?token={self._token}"  # opens it once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope, Headers(scope=scope))
        await (answer or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """What is answered in the application's place; None: let it in."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self._hosts:
            return PlainTextResponse("This is not the host that the dashboard is opened at.\n", 403)
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("Another site's page asks.\n", 403)
        if scope["method"] not in ("GET", "HEAD") and origin is None:
            return PlainTextResponse("Only the dashboard's own pages may change anything.\n", 403)
        if headers.get("sec-fetch-site", "none") == "cross-site" and scope["path"] != "/":
            return PlainTextResponse("Another site's page asks.\n", 403)
        if scope["path"] in OPEN:
            return None
        if secrets.compare_digest(_cookie(headers, self._cookie).encode(), self._session.encode()):
            return None
        return self._enter(scope)

    def _enter(self, scope: Scope) -> Response:
        """The link is turned into a cookie, once."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] != "/" or not given:
            return PlainTextResponse("Open the link that gpuplan dashboard printed.\n", 403)
        if self._token is None or not secrets.compare_digest(given.encode(), self._token.encode()):
            return PlainTextResponse(USED, 403)
        self._token = None
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path="/")
        return answer


def _cookie(headers: Mapping[str, str], name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""
