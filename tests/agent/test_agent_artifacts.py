"""Checksums, and PUTs to a store that does not always do as one would like."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.conftest import AGENT, Machine

sys.path.insert(0, str(AGENT))
from gpuplan_agent import checksums


def crc(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_the_crc_of_a_whole_follows_from_its_parts(parts: list[bytes]):
    """Joining the parts' CRC-32s gives the whole's, whatever their lengths."""
    assert checksums.join([(zlib.crc32(part), len(part)) for part in parts]) == zlib.crc32(b"".join(parts))


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 10_500_000])
def test_checksums(machine: Machine, size: int):
    """Size, SHA-256, MD5 on request, and CRC-32 of the whole and of parts that cover it."""
    data = os.urandom(size)
    (machine.workspace / "f").write_bytes(data)
    part = 1000 if size < 10_000 else 5_000_000
    reply = machine.ask("checksums", path="f", part_bytes=part, md5=True)
    assert reply["bytes"] == size
    assert reply["sha256"] == hashlib.sha256(data).hexdigest()
    assert reply["md5"] == md5(data)
    assert reply["crc32"] == crc(data)
    ranges = [(row["offset"], row["length"]) for row in reply["parts"]]
    assert [row["number"] for row in reply["parts"]] == list(range(1, len(ranges) + 1))
    assert b"".join(data[offset : offset + length] for offset, length in ranges) == data
    assert all(row["crc32"] == crc(data[row["offset"] : row["offset"] + row["length"]]) for row in reply["parts"])
    assert "md5" not in machine.ask("checksums", path="f", part_bytes=part)
    assert all("md5" not in row for row in reply["parts"])
    each = machine.ask("checksums", path="f", part_bytes=part, parts_md5=True)["parts"]
    assert [row["md5"] for row in each] == [md5(data[row["offset"] : row["offset"] + row["length"]]) for row in each]


def test_checksums_of_no_file(machine: Machine):
    """A file that is not there is an error with a code."""
    assert machine.ask("checksums", path="none", part_bytes=1000)["code"] == "os_error"


def md5(data: bytes) -> str:
    """As Content-MD5 has it."""
    return base64.b64encode(hashlib.md5(data).digest()).decode()


class Store(http.server.ThreadingHTTPServer):
    """Takes PUTs. `scripted` maps a path to the next statuses; 0: close the connection, -1: be silent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.stored: dict[str, bytes] = {}
        self.headers: list[dict[str, str]] = []
        self.scripted: dict[str, list[int]] = {}
        self.order: list[str] = []
        self.busy = self.most_busy = self.connections = 0
        self.hangs_up = False  # after each answer, without a word
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gives up is what some tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_PUT(self) -> None:
        with self.server.lock:
            self.server.busy += 1
            self.server.most_busy = max(self.server.busy, self.server.most_busy)
            self.server.order.append(self.path)
            status = self.server.scripted.get(self.path, []).pop(0) if self.server.scripted.get(self.path) else 200
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.05)
        with self.server.lock:
            self.server.busy -= 1
            self.server.headers.append(dict(self.headers))
        if status <= 0 or len(body) < int(self.headers["Content-Length"]):
            if status < 0:
                time.sleep(3)
            self.close_connection = True
            return
        if status in (200, 201, 308):
            self.server.stored[self.path] = body
        said = b"" if status < 400 else b"<Error>SlowDown</Error>"
        self.send_response(status)
        self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
        if status == 308:
            self.send_header("Range", f"bytes=0-{len(body) - 1}")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
        self.close_connection = self.server.hangs_up

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def store() -> Iterator[Store]:
    """A store on loopback."""
    server = Store()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def parts(store: Store, data: bytes, size: int, accept: list[int]) -> list[dict[str, Any]]:
    return [
        {
            "number": number,
            "offset": offset,
            "length": min(size, len(data) - offset),
            "url": f"{store.url}/bucket/a%20b%2Bc?partNumber={number}&X-Amz-Signature=abc%2Fdef",
            "headers": {"x-amz-checksum-crc32": crc(data[offset : offset + size])},
            "accept": accept,
        }
        for number, offset in enumerate(range(0, len(data), size), 1)
    ]


def target(number: int) -> str:
    return f"/bucket/a%20b%2Bc?partNumber={number}&X-Amz-Signature=abc%2Fdef"


def test_parts_are_put_as_signed(machine: Machine, store: Store):
    """Each part arrives whole under its very URL with its headers, as plain bytes, eight at a time."""
    data = os.urandom(5_500_001)
    (machine.workspace / "f").write_bytes(data)
    lines = machine.lines("put", path="f", parts=parts(store, data, 500_000, [200]))
    assert lines[-1] == {"ok": True, "stored": 12, "failed": 0}
    assert b"".join(store.stored[target(number)] for number in range(1, 13)) == data
    assert {headers["Content-Type"] for headers in store.headers} == {"application/octet-stream"}
    assert all("x-amz-checksum-crc32" in headers and "Transfer-Encoding" not in headers for headers in store.headers)
    assert 1 < store.most_busy <= 8
    assert store.connections <= 8
    sent = {line["part"]: line for line in lines if "part" in line}
    assert sent[12]["bytes"] == 1
    assert sent[1]["etag"] == f'"{hashlib.md5(data[:500_000]).hexdigest()}"'


def test_a_refused_part_is_reported_and_the_others_go_on(machine: Machine, store: Store):
    """A refusal, a closed connection and a silent store are reported for their part, with the store's own words."""
    data = os.urandom(500_000)
    (machine.workspace / "f").write_bytes(data)
    store.scripted = {target(1): [503], target(2): [0], target(3): [-1], target(4): [403]}
    lines = machine.lines("put", path="f", parts=parts(store, data, 100_000, [200]), socket_s=1)
    assert lines[-1] == {"ok": True, "stored": 1, "failed": 4}
    sent = {line["part"]: line for line in lines if "part" in line}
    assert "SlowDown" in sent[1]["error"]
    assert sent[1]["status"] == 503
    assert sent[2]["status"] == sent[3]["status"] == 0
    assert sent[2]["error"]
    assert "timed out" in sent[3]["error"]
    assert sent[4]["status"] == 403
    assert "error" not in sent[5]
    again = machine.lines("put", path="f", parts=parts(store, data, 100_000, [200])[:4])
    assert again[-1] == {"ok": True, "stored": 4, "failed": 0}


def test_ordered_parts_go_one_after_the_other_and_stop_at_a_failure(machine: Machine, store: Store):
    """In order, one part is under way at a time, an accepted 308 means stored, and a failure is the end."""
    data = os.urandom(500_000)
    (machine.workspace / "f").write_bytes(data)
    store.scripted = {target(1): [308], target(2): [308], target(3): [503]}
    lines = machine.lines("put", path="f", parts=parts(store, data, 100_000, [200, 308]), ordered=True)
    assert [line["part"] for line in lines if "part" in line] == [1, 2, 3]
    assert lines[-1] == {"ok": True, "stored": 2, "failed": 1}
    assert store.order == [target(1), target(2), target(3)]
    assert store.most_busy == 1
    assert next(line for line in lines if line.get("part") == 1)["range"] == "bytes=0-99999"


@pytest.mark.parametrize(("hangs_up", "connections"), [(False, 1), (True, 4)])
def test_a_connection_is_kept_as_long_as_the_store_keeps_it(
    machine: Machine, store: Store, *, hangs_up: bool, connections: int
):
    """Parts go one after the other on one connection; a store that hangs up after each answer gets each on a new one.

    A refusal ends no connection.
    """
    data = os.urandom(400_000)
    (machine.workspace / "f").write_bytes(data)
    store.hangs_up, rows = hangs_up, parts(store, data, 100_000, [200, 503])
    store.scripted = {target(2): [503]}
    lines = machine.lines("put", path="f", parts=rows, ordered=True)
    assert lines[-1] == {"ok": True, "stored": 4, "failed": 0}
    assert store.connections == connections


@pytest.mark.parametrize(("cuts", "stored"), [(1, 3), (2, 1)])
def test_a_store_that_hangs_up_as_a_part_begins_is_asked_once_more(
    machine: Machine, store: Store, cuts: int, stored: int
):
    """On a connection that had served before; what breaks on a new one is a failure of the part."""
    data = os.urandom(300_000)
    (machine.workspace / "f").write_bytes(data)
    store.scripted = {target(2): [0] * cuts}
    lines = machine.lines("put", path="f", parts=parts(store, data, 100_000, [200]), ordered=True)
    assert lines[-1] == {"ok": True, "stored": stored, "failed": cuts - 1}


def test_a_file_that_shrank_is_a_failure(machine: Machine, store: Store):
    """A part beyond the file's end is not stored, and the reason is given."""
    data = os.urandom(200_000)
    (machine.workspace / "f").write_bytes(data[:150_000])
    lines = machine.lines("put", path="f", parts=parts(store, data, 100_000, [200]), socket_s=1)
    sent = {line["part"]: line for line in lines if "part" in line}
    assert lines[-1] == {"ok": True, "stored": 1, "failed": 1}
    assert "shorter" in sent[2]["error"]
    assert target(2) not in store.stored


def test_a_store_that_is_not_there(machine: Machine, store: Store):
    """A store that cannot be reached is a failure of each part; another scheme than HTTP too; no URL is shown."""
    (machine.workspace / "f").write_bytes(b"x" * 10)
    rows = parts(store, b"x" * 10, 10, [200])
    dead = [{**rows[0], "url": "http://127.0.0.1:9/x?secret=1"}, {**rows[0], "url": "file:///etc/secret"}]
    lines = machine.lines("put", path="f", parts=dead)
    assert lines[-1]["failed"] == 2
    assert not any("secret" in str(line) for line in lines)
    assert machine.ask("put", path="none", parts=rows)["code"] == "no_file"
