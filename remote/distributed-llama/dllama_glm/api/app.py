"""The HTTP side: routes, keys, bodies and streams."""

import asyncio
import hmac
import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dllama_glm.api.asks import Ask, Asks
from dllama_glm.api.engine import Engine
from dllama_glm.api.errors import ApiError, internal, wrong
from dllama_glm.api.replies import ChatReply, Reply, model_document

MOST_BYTES = 8 << 20  # of a request's body: a book
BODY_SECONDS = 60.0  # in which it must have come

_NO_KEY = ApiError(
    401, "The API key is missing or wrong: send it as Authorization: Bearer KEY.", code="invalid_api_key"
)


def application(model: str, asks: Asks, engine: Engine, key: str | None) -> ASGIApp:
    """Return the ASGI application; `model` is the name under which clients see it, `key` what they must know."""
    entry = model_document(model, int(time.time()))

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": model, "open": engine.open})

    async def models(_request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [entry]})

    async def one(request: Request) -> Response:
        if request.path_params["name"] != model:
            message = f"There is no model {request.path_params['name']!r} here: it is {model!r}."
            return ApiError(404, message, code="model_not_found").response()
        return JSONResponse(entry)

    routes = [
        Route("/health", health),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", one),
        Route("/v1/chat/completions", Endpoint(model, asks.chat, engine, ChatReply), methods=["POST"]),
        Route("/v1/completions", Endpoint(model, asks.completion, engine, Reply), methods=["POST"]),
    ]
    return Door(Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _failed}), key)


class Endpoint:
    """One route that generates, as an ASGI application."""

    def __init__(self, model: str, read: Callable[[Any], Ask], engine: Engine, reply: type[Reply]) -> None:
        self._model = model
        self._read = read
        self._engine = engine
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a client that goes away, in the queue or while text is made, leaves nothing behind."""
        try:
            with self._engine.place():  # in front of the body: what is held in memory is bounded too
                body = await _json(Request(scope, receive))
                ask = await run_in_threadpool(self._read, body)
                answer = self._stream(ask, send) if ask.stream else self._whole(ask, scope, receive, send)
                await _until_gone(receive, answer)
        except ApiError as error:
            await error.response()(scope, receive, send)
        except ClientDisconnect:
            return

    async def _whole(self, ask: Ask, scope: Scope, receive: Receive, send: Send) -> None:
        pieces: list[str] = []

        async def keep(piece: str) -> None:
            pieces.append(piece)

        await self._engine.write(ask, keep)
        document = self._reply(self._model).whole("".join(pieces), ask.run)
        await JSONResponse(document)(scope, receive, send)

    async def _stream(self, ask: Ask, send: Send) -> None:
        events = Events(send)
        reply = self._reply(self._model)

        async def show(piece: str) -> None:
            if not events.begun:
                await events.send(*reply.opening())
            await events.send(reply.piece(piece))

        try:
            await self._engine.write(ask, show)
        except Exception as error:
            if not events.begun:
                raise
            await events.send(_as_api_error(error).document)
            await events.end()
            return
        opening = [] if events.begun else reply.opening()
        await events.send(*opening, *reply.closing(ask.run, usage=ask.usage), "[DONE]")
        await events.end()


class Events:
    """Server-sent events; the response begins with the first of them."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def send(self, *documents: Any) -> None:
        """Send documents as JSON, a text as it is."""
        if not self.begun:
            self.begun = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        for document in documents:
            text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
            await self._body(f"data: {text}\n\n".encode(), more=True)

    async def end(self) -> None:
        """End the response."""
        await self._body(b"", more=False)

    async def _body(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


class Door:
    """Asks for the key in front of everything; what went wrong behind it has been answered and printed there."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it here."""
        answer = self._app if self._has_key(scope) else _NO_KEY.response()
        try:
            await answer(scope, receive, send)
        except Exception:  # noqa: BLE001 - starlette raises again what `_failed` has made a response of
            return

    def _has_key(self, scope: Scope) -> bool:
        if self._key is None or not scope["path"].startswith("/v1/"):
            return True
        given = Request(scope).headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._key}".encode())


async def _until_gone(receive: Receive, answer: Coroutine[Any, Any, None]) -> None:
    """Run `answer` to its end, or to the client's."""
    answering = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        answered = answering.done()
        for task in (answering, leaving):
            task.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)
    if answered:
        answering.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _json(request: Request) -> Any:
    """Read a request's body as JSON. Raises ApiError where it is too large, too slow or no JSON."""
    data = bytearray()

    async def read() -> None:
        async for part in request.stream():
            data.extend(part)
            if len(data) > MOST_BYTES:
                raise ApiError(413, f"The body is larger than {MOST_BYTES >> 20} MiB.")

    try:
        await asyncio.wait_for(read(), BODY_SECONDS)
    except asyncio.TimeoutError:  # noqa: UP041 - Python 3.10 tells them apart
        raise ApiError(408, f"The body did not come within {BODY_SECONDS:g} s.") from None
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise wrong("body", f"is not JSON ({error})") from None


def _as_api_error(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    print(f"error: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return internal(error)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return ApiError(error.status_code, f"{error.detail}.").response()


async def _failed(_request: Request, error: Exception) -> Response:
    return _as_api_error(error).response()
