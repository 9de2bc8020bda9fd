"""Files from a store, by GETs that somebody else has signed, over real HTTP from a store that is not always well."""

from __future__ import annotations

import base64
import hashlib
import http.server
import re
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.agent.conftest import Machine
from tests.contracts.contract_stores import payload

RANGE = 1000


class Store(http.server.ThreadingHTTPServer):
    """Has objects by path; answers the GETs that are still to be refused with their statuses, -1: half of it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.objects: dict[str, bytes] = {}
        self.refusals: list[int] = []
        self.ranges: list[str] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Asked(http.server.BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert asked
        assert self.headers["If-Match"] == "of this content"
        whole = self.server.objects[self.path]
        body = whole[int(asked[1]) : int(asked[2]) + 1]
        with self.server.lock:
            refusal = self.server.refusals.pop(0) if self.server.refusals else 0
            self.server.ranges.append(f"{self.path} {asked[1]}")
        if refusal > 0:
            self.send_error(refusal, "not now")
            return
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if refusal else body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is http.server's
        pass


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join(10)


def wanted(store: Store, path: str, content: bytes, **others: Any) -> dict[str, Any]:
    """What is asked for of one file, with every checksum that stores tell."""
    store.objects[f"/{path}"] = content
    sums = {
        "crc32": base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode(),
        "md5": base64.b64encode(hashlib.md5(content).digest()).decode(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return {
        "path": path,
        "bytes": len(content),
        "tag": "t1",
        "url": f"{store.url}/{path}",
        "headers": {"If-Match": "of this content"},
        **sums,
        **others,
    }


def get(machine: Machine, *files: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The last that is said of each file, and the reply."""
    *lines, last = machine.lines("get", files=list(files), range_bytes=RANGE)
    said = [[line for line in lines if line.get("file") == n][-1] for n in range(len(files))]
    return said, last


def left_over(machine: Machine) -> list[str]:
    return [path.name for path in machine.workspace.rglob("*.gpuplan-*")]


def test_files_come_whole(machine: Machine, store: Store):
    """In ranges, an empty one too, into folders that are made; nothing else is left beside them."""
    contents = {"d/a": payload(10 * RANGE + 7), "d/e/b": payload(3), "c": b""}
    said, last = get(machine, *(wanted(store, path, content) for path, content in contents.items()))
    assert last == {"ok": True, "fetched": 3}
    assert [(line["arrived"], line["done"]) for line in said] == [(len(c), True) for c in contents.values()]
    assert {path: (machine.workspace / path).read_bytes() for path in contents} == contents
    assert left_over(machine) == []
    assert len(store.ranges) == 12


def test_only_what_is_missing_is_fetched_after_a_cut(machine: Machine, store: Store):
    """Ranges that were whole stay; one that broke off in the middle is fetched again, and nobody sees half a file."""
    content = payload(20 * RANGE)
    store.refusals = [0, 0, 0, -1, 503]
    asked = wanted(store, "a", content)
    (said,), last = get(machine, asked)
    assert (last["fetched"], said["done"]) == (0, False)
    assert said["status"] in (0, 503)
    assert not (machine.workspace / "a").exists()
    had, store.ranges = len((machine.workspace / "a.gpuplan-ranges").read_text().splitlines()) - 1, []
    assert 3 <= had < 20
    assert said["arrived"] == had * RANGE
    (said,), _ = get(machine, asked)
    assert said["done"]
    assert len(store.ranges) == 20 - had
    assert (machine.workspace / "a").read_bytes() == content


def test_half_of_another_object_is_thrown_away(machine: Machine, store: Store):
    """When its tag has changed meanwhile nothing of it is kept."""
    store.refusals = [0, 0, 404]
    get(machine, wanted(store, "a", payload(20 * RANGE)))
    store.ranges, content = [], payload(20 * RANGE, seed=9)
    (said,), _ = get(machine, wanted(store, "a", content, tag="t2"))
    assert said["done"]
    assert len(store.ranges) == 20
    assert (machine.workspace / "a").read_bytes() == content


@pytest.mark.parametrize("name", ["crc32", "md5", "sha256"])
def test_wrong_content_takes_no_place(machine: Machine, store: Store, name: str):
    """Whatever checksum the store tells; the old file stays as it was, and nothing of the new one is kept."""
    (machine.workspace / "a").write_text("old")
    asked = wanted(store, "a", payload(3 * RANGE)) | dict.fromkeys({"crc32", "md5", "sha256"} - {name}, "")
    store.objects["/a"] = payload(3 * RANGE, seed=5)
    (said,), last = get(machine, asked)
    assert (last["fetched"], said["error"]) == (0, f"what arrived has another {name} than is asked for")
    assert (machine.workspace / "a").read_text() == "old"
    assert left_over(machine) == []


@pytest.mark.parametrize("path", ["../a", "/etc/a", "out/a", "."])
def test_nothing_comes_to_lie_outside(machine: Machine, store: Store, path: str):
    """Of the workspace, by no name and by no link."""
    (machine.workspace / "out").symlink_to(machine.home)
    reply = machine.ask("get", files=[wanted(store, "x", b"1") | {"path": path}])
    assert reply["code"] == "outside"
    assert store.ranges == []


def test_what_the_store_says_is_handed_on(machine: Machine, store: Store):
    """A refusal comes with its status and words, and the other files come all the same."""
    store.refusals = [403]
    said, _ = get(machine, wanted(store, "a", b"12"))
    assert said[0]["status"] == 403
    assert "not now" in said[0]["error"]
    said, last = get(machine, wanted(store, "a", b"12"), wanted(store, "b", b"3", url="ftp://x/y"))
    assert last["fetched"] == 1
    assert "ftp" in said[1]["error"]
