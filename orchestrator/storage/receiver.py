"""A small HTTP server on loopback that takes the parts of a directory store: what a bucket's own address is to S3."""

from __future__ import annotations

import base64
import hmac
import secrets
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

CHECKSUM = "x-amz-checksum-crc32"
BLOCK = 1024 * 1024
SILENCE_S = 60


class Receiver:
    """Takes PUTs of parts below `folder` while its process lives. The URL is a capability: it holds a random token."""

    def __init__(self, folder: Path) -> None:
        self._token = secrets.token_urlsafe(24)
        token = self._token

        class Handler(_Handler):
            secret = token
            root = folder

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True, name="parts").start()

    def url(self, upload: str, number: int) -> str:
        """Where part `number` of that upload is to be sent."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{self._token}/{upload}/{number}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    secret = ""
    root = Path()
    protocol_version = "HTTP/1.1"
    timeout = SILENCE_S

    def do_PUT(self) -> None:
        """Store one part, if its checksum holds."""
        words = urlsplit(self.path).path.strip("/").split("/")
        length = int(self.headers.get("Content-Length") or 0)
        if len(words) != 3 or not hmac.compare_digest(words[0], self.secret) or not words[2].isdigit():
            self._answer(403)
            return
        folder = self.root / words[1]
        if not words[1].isalnum() or not folder.is_dir():
            self._answer(404)
            return
        partial = folder / f"{words[2]}.partial-{secrets.token_hex(4)}"
        crc = 0
        with partial.open("wb") as file:
            while length > 0 and (block := self.rfile.read(min(BLOCK, length))):
                crc = zlib.crc32(block, crc)
                file.write(block)
                length -= len(block)
        whole = length == 0 and base64.b64encode(crc.to_bytes(4, "big")).decode() == self.headers.get(CHECKSUM)
        if whole and folder.is_dir():
            partial.replace(folder / words[2])
        else:
            partial.unlink(missing_ok=True)
        self._answer(200 if whole else 400)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing: the URL is a capability."""
