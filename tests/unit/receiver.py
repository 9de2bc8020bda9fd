"""A web server on this computer that takes apprise's messages."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from orchestrator.words.secret import Secret


class Receiver:
    """Takes messages of json://; `status` is its answer."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        me = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                me.got.append(json.loads(body))
                self.send_response(me.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = Secret(f"json://user:s3cret-word@127.0.0.1:{self._server.server_port}/hook")
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
