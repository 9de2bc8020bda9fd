"""What a status, a broken connection and half a body become."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace

import httpx
import pytest

from orchestrator.providers.http import Api, RateLimited
from orchestrator.words.errors import (
    AccountRefused,
    Ambiguous,
    NoCapacity,
    ProviderUnavailable,
    Refused,
    RequestRefused,
)
from tests.unit.providers.vendor_replay import ACCESS, BASE_URL, KEY, Vendor


def api(vendor: Vendor) -> Api:
    return Api("Vendor", BASE_URL, replace(ACCESS, transport=vendor.transport), lambda body: str(body.get("detail")))


def detail(words: str) -> dict[str, str]:
    return {"detail": words}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, detail("There are no longer any instances available with the requested specifications."), NoCapacity),
        (400, detail("This machine does not have the resources to deploy your pod."), NoCapacity),
        (400, detail("Out of stock"), NoCapacity),
        (400, detail("disk is too large"), Refused),
        (404, detail("volume not found"), Refused),
        (409, detail("pod belongs to a cluster"), Refused),
        (422, detail("additional properties 'bogus' not allowed"), RequestRefused),
        (401, detail("missing bearer token"), AccountRefused),
        (402, detail("balance too low"), AccountRefused),
        (403, detail("access denied"), AccountRefused),
        (429, detail("rate limit exceeded"), RateLimited),
        (301, "moved", Refused),
        (500, detail("no longer any instances available"), Ambiguous),
        (502, "<html>bad gateway</html>", Ambiguous),
        (201, '{"id": "abc", "na', Ambiguous),
        (200, "", Ambiguous),
    ],
)
def test_what_a_create_means(status: int, body: object, error: type[Exception]):
    """A definite no is told from an answer that leaves it open whether something was made."""
    vendor = Vendor({"POST /pods": (status, body)})
    with pytest.raises(error) as raised:
        api(vendor).create("pods", {"name": "x"})
    assert type(raised.value) is error
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        httpx.ReadError("reset"),
        httpx.DecodingError("no gzip"),
    ],
)
def test_a_create_without_an_answer_is_ambiguous(fault: Exception):
    """A request that went out and was not answered may have made something; it is sent once."""
    vendor = Vendor({"POST /pods": fault})
    with pytest.raises(Ambiguous, match="no answer to POST pods"):
        api(vendor).create("pods", {})
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("fault", [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")])
def test_a_create_that_was_not_sent_may_be_tried_later(fault: Exception):
    """Where no connection was made, nothing was created."""
    with pytest.raises(ProviderUnavailable, match="nothing was sent"):
        api(Vendor({"POST /pods": fault})).create("pods", {})


def test_half_a_body_is_ambiguous():
    """A connection that ends in the middle of a create's answer leaves its result open."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        connection.recv(65536)
        connection.sendall(
            b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"id": "a'
        )
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    client = Api("Vendor", f"http://127.0.0.1:{server.getsockname()[1]}", ACCESS, str)
    with pytest.raises(Ambiguous):
        client.create("pods", {})
    thread.join()
    server.close()
    client.close()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, detail("bad token"), AccountRefused),
        (402, detail("balance"), AccountRefused),
        (403, "error code: 1010", AccountRefused),
        (429, detail("slow down"), RateLimited),
        (500, detail("oops"), ProviderUnavailable),
        (400, detail("odd"), ProviderUnavailable),
        (410, detail("gone"), ProviderUnavailable),
        (200, "<html>", ProviderUnavailable),
    ],
)
def test_what_a_read_means(status: int, body: object, error: type[Exception]):
    """A read fails for the account's sake, or for now."""
    with pytest.raises(error) as raised:
        api(Vendor({"GET /pods": (status, body)})).read("pods")
    assert type(raised.value) is error


def test_not_found_is_an_answer():
    """404 is None to a read, and done to a destroy."""
    client = api(Vendor({}))
    assert client.read("pods/a") is None
    assert client.destroy("DELETE", "pods/a") is None


@pytest.mark.parametrize(
    ("status", "error"), [(409, ProviderUnavailable), (500, ProviderUnavailable), (403, AccountRefused)]
)
def test_a_destroy_that_was_not_accepted_says_so(status: int, error: type[Exception]):
    """Everything but success and 404 leaves the thing alive."""
    with pytest.raises(error):
        api(Vendor({"DELETE /pods/a": (status, detail("no"))})).destroy("DELETE", "pods/a")


@pytest.mark.parametrize(
    ("header", "seconds"), [("17", 17.0), ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0), ("soon", None), ("", None)]
)
def test_retry_after_is_handed_on(header: str, seconds: float | None):
    """Both forms of Retry-After are understood, and nonsense is none."""
    vendor = Vendor({"GET /pods": (429, detail("slow down"), {"Retry-After": header})})
    with pytest.raises(RateLimited) as raised:
        api(vendor).read("pods")
    assert seconds == raised.value.retry_after


def test_the_key_never_shows_and_every_request_has_a_name():
    """An error that repeats the key is masked; the User-Agent is ours."""
    vendor = Vendor({"GET /pods": (500, detail(f"token {KEY} is odd"))})
    with pytest.raises(ProviderUnavailable) as raised:
        api(vendor).read("pods")
    assert KEY not in str(raised.value)
    assert vendor.requests[0].headers["User-Agent"].startswith("gpuplan/")
    assert vendor.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def of_the_pool(status: int, words: str) -> bool:
    """What such a vendor's adapter knows."""
    return status == 403 and "pool" in words


def test_a_closed_pool_bars_one_candidate_only():
    """A vendor's own status for "not this kind of machine" is want of capacity; the front door's page is not."""
    with pytest.raises(NoCapacity):
        api(Vendor({"POST /pods": (403, detail("pool not allowed"))})).create("pods", {}, barred=of_the_pool)
    with pytest.raises(AccountRefused, match="proxy"):
        api(Vendor({"POST /pods": (403, "error code: 1010, pool")})).create("pods", {}, barred=of_the_pool)
    with pytest.raises(AccountRefused, match="access denied"):
        api(Vendor({"POST /pods": (403, detail("access denied"))})).create("pods", {}, barred=of_the_pool)
