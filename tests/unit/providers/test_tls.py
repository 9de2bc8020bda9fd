"""Whoever stands between us and a vendor cannot take its place: a certificate that nobody signed ends every request."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from orchestrator.providers import open_provider
from orchestrator.providers.runpod_graphql import RunPodGraphQL
from orchestrator.storage import StoreAccess, open_store
from orchestrator.words.access import ProviderAccess
from orchestrator.words.errors import GpuplanError
from orchestrator.words.secret import Secret
from orchestrator.world.model_hub import Hub
from tests.https_site import certificate


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server with such a certificate, and what it was told."""
    heard: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(f"{self.path} {self.headers}")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815  the library's names

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    server.server_close()


def _access(url: str) -> ProviderAccess:
    return ProviderAccess(
        api_key=Secret("key-7f3a"), base_url=url, graphql_url=url, public_key="k", owner="o" * 8, sleep=lambda _: None
    )


ASK: dict[str, Callable[[str], object]] = {
    "runpod": lambda url: open_provider("runpod", _access(url)).machines(),
    "runpod's older API": lambda url: RunPodGraphQL(_access(url)).bids(1),
    "lambda": lambda url: open_provider("lambda", _access(url)).machines(),
    "hub": lambda url: Hub(url, Secret("hf-7f3a")).commit("o/n"),
    "s3": lambda url: open_store("s3://bucket/prefix", StoreAccess(endpoint=url)).check(),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_a_certificate_that_nobody_signed_ends_every_request(
    stranger: tuple[str, list[str]], ask: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
):
    """Providers, hub and store: an error of ours, and whoever answered was told nothing, no credential either."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-7f3a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key-7f3a")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    url, heard = stranger
    with pytest.raises(GpuplanError, match=r"(?i)certificate|SSL"):
        ask(url)
    assert heard == []
