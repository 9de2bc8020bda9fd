"""Sending the parts of a file, or of a tar, to a store, each by a PUT that somebody else has signed.

No credential is here.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import queue
import select
import ssl
import threading
import time
from typing import Any, Callable, Iterator
from urllib.parse import urlsplit

from gpuplan_agent.content import content
from gpuplan_agent.wire import AgentError, alive, emit

SENDERS = 8
SOCKET_S = 60.0  # for one read or write; a store that is silent for longer is taken for gone
BEAT_S = 4.0
LONGEST_REASON = 300  # characters of a store's refusal that are handed on
Body = Callable[[], Iterator[bytes]]  # from its beginning, as often as it is sent


def op_put(request: dict[str, Any]) -> dict[str, Any]:
    """PUT the parts, SENDERS at a time or in order, and report each: {"part", "status", "etag", "bytes", "range"}.

    A part that the store did not accept has `error`; when they go in order, those after it are not sent. The reply says
    how many were stored and how many failed: a failed part is a fact, not an error of the request. AgentError: what
    `path` names (content.py) is not there, or not what it was.
    """
    source = content(request)
    source.require()
    ordered = bool(request.get("ordered"))
    sending = Sending(
        source, request["parts"], stop_at_failure=ordered, socket_s=float(request.get("socket_s", SOCKET_S))
    )
    threads = [
        threading.Thread(target=sending.work, daemon=True)
        for _ in range(1 if ordered else min(SENDERS, len(request["parts"])))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(BEAT_S)
            alive()
    if sending.unfit:
        raise sending.unfit
    return {"stored": sending.stored, "failed": sending.failed}


class Sending:
    """The parts that wait, and what became of those that were sent."""

    def __init__(self, source: Any, parts: list[dict[str, Any]], *, stop_at_failure: bool, socket_s: float) -> None:
        self._source, self.stop_at_failure, self.socket_s = source, stop_at_failure, socket_s
        self.stored = self.failed = 0
        self.unfit: AgentError | None = None  # why no part of it is to be sent any more
        self._waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        for part in parts:
            self._waiting.put(part)
        self._lock = threading.Lock()

    def work(self) -> None:
        """Send parts until none waits, or there is nothing fit to be sent."""
        with contextlib.closing(Kept(self.socket_s)) as kept:
            self._work(kept)

    def _work(self, kept: Kept) -> None:
        while not self.unfit:
            try:
                part = self._waiting.get_nowait()
                line = self._send(kept, part)
            except queue.Empty:
                return
            except AgentError as error:
                self.unfit = error
                return
            with self._lock:
                self.failed += "error" in line
                self.stored += "error" not in line
            emit(line)
            if "error" in line and self.stop_at_failure:
                return

    def _send(self, kept: Kept, part: dict[str, Any]) -> dict[str, Any]:
        line: dict[str, Any] = {"part": part["number"], "status": 0, "etag": "", "bytes": 0, "range": ""}
        began = time.monotonic()
        try:
            reply, said = self._put(kept, part)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return {**line, "error": f"{type(error).__name__}: {error}"}
        line.update(status=reply.status, etag=reply.getheader("ETag", ""), range=reply.getheader("Range", ""))
        line["seconds"] = round(time.monotonic() - began, 3)
        if reply.status not in part["accept"]:
            reason = said.decode("utf-8", "replace")[:LONGEST_REASON].strip()
            return {**line, "error": f"HTTP {reply.status} {reply.reason}: {reason}"}
        return {**line, "bytes": part["length"]}

    def _put(self, kept: Kept, part: dict[str, Any]) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {"Content-Type": "application/octet-stream", **part.get("headers", {})}
        headers["Content-Length"] = str(part["length"])
        return kept.put(part["url"], headers, lambda: self._source.read(part["offset"], part["length"]))


class Kept:
    """A connection to a store, kept from one part to the next for as long as the store keeps it."""

    def __init__(self, socket_s: float) -> None:
        self._socket_s = socket_s
        self._place: tuple[str, str, int | None] | None = None
        self._connection: http.client.HTTPConnection | None = None

    def put(self, url: str, headers: dict[str, str], body: Body) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer, and the beginning of what it says. OSError, HTTPException, ValueError: there is none.

        A store may hang up in the moment in which the next part begins: then it is asked once more, anew.
        """
        parts = urlsplit(url)
        place = (parts.scheme, parts.hostname or "", parts.port)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if connection := self._kept(place):
            try:
                return self._ask(connection, target, headers, body)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                pass
        self._place, self._connection = place, connect(*place, self._socket_s)
        return self._ask(self._connection, target, headers, body)

    def _ask(
        self, connection: http.client.HTTPConnection, target: str, headers: dict[str, str], body: Body
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            connection.request("PUT", target, body=body(), headers=headers)
            reply = connection.getresponse()
            said = reply.read(1 << 16)
        except BaseException:
            self.close()
            raise
        if not reply.isclosed():  # there is more of the answer, which nobody reads
            self.close()
        return reply, said

    def _kept(self, place: tuple[str, str, int | None]) -> http.client.HTTPConnection | None:
        """The connection that there is, unless it leads elsewhere or the store has closed it."""
        sock = self._connection.sock if self._connection else None
        if self._connection and place == self._place and sock and not select.select([sock], [], [], 0)[0]:
            return self._connection
        self.close()
        return None

    def close(self) -> None:
        """Let it go."""
        if self._connection:
            self._connection.close()
        self._connection = None


@functools.lru_cache(maxsize=1)
def tls() -> ssl.SSLContext:
    """Whom connections trust: 25 ms, so that the process that is forked for each request makes it (standing.py)."""
    return ssl.create_default_context()


def connect(scheme: str, host: str, port: int | None, timeout: float) -> http.client.HTTPConnection:
    """A connection to a store. ValueError: by none of the two ways that there are."""
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=tls())
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    raise ValueError(f"nothing can be sent or fetched by {scheme!r}")
