"""A file by https on the machine: redirects, servers without ranges, contents that change, over TLS on loopback."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import Machine
from tests.contracts.contract_stores import payload
from tests.https_site import File, Site, certificate, site

CONTENT = payload(2500)


@pytest.fixture
def there(tmp_path: Path, machine: Machine) -> Iterator[Site]:
    """A site that the machine believes."""
    file = certificate(tmp_path)
    machine.env["SSL_CERT_FILE"] = str(file)
    with site(file) as made:
        yield made


def get(machine: Machine, there: Site, path: str, **others: Any) -> dict[str, Any]:
    """The last that is said of a file that is asked for as the controller asks for one by https."""
    asked = {
        "path": "data/x", "bytes": len(CONTENT), "tag": "t", "url": f"{there.url}{path}", "headers": {},
        "follow": True, "ranges": True, "etag": '"one"', **others,
    }  # fmt: skip
    lines = machine.lines("get", files=[asked], range_bytes=1000)
    return [line for line in lines if line.get("file") == 0][-1]


def test_a_redirect_is_followed_for_each_range(machine: Machine, there: Site):
    """And the file is what the last address has."""
    there.files |= {"/a": File(moved="/b?token=1"), "/b": File(CONTENT)}
    assert get(machine, there, "/a", sha256=hashlib.sha256(CONTENT).hexdigest())["done"]
    assert (machine.workspace / "data/x").read_bytes() == CONTENT
    assert sorted(said for _, path, said in there.asked if path == "/b?token=1") == [
        "bytes=0-999", "bytes=1000-1999", "bytes=2000-2499",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("moved", "follow", "words"),
    [
        ("http://127.0.0.1:9/x?token=1", True, "it leads to http://127.0.0.1:9/x, which is no https"),
        ("/a", True, "more than 5 redirects"),
        ("/b", False, "HTTP 302"),
    ],
)
def test_a_redirect_leads_nowhere_else(machine: Machine, there: Site, moved: str, follow: bool, words: str):  # noqa: FBT001
    """Not to plain HTTP, not for ever, and none where a store has signed for the address."""
    there.files |= {"/a": File(moved=moved), "/b": File(CONTENT)}
    said = get(machine, there, "/a", follow=follow)
    assert words in said["error"]
    assert "token" not in said["error"]
    assert not (machine.workspace / "data/x").exists()


def test_a_server_without_ranges_sends_all_of_it(machine: Machine, there: Site):
    """In one request; where ranges are asked for, all of it is no answer."""
    there.files["/a"] = File(CONTENT, ranges=False)
    assert "HTTP 200" in get(machine, there, "/a")["error"]
    there.asked.clear()
    assert get(machine, there, "/a", ranges=False)["done"]
    assert there.asked == [("GET", "/a", "")]
    assert (machine.workspace / "data/x").read_bytes() == CONTENT


def test_another_content_is_refused(machine: Machine, there: Site):
    """By the server's own tag, before anything of it is kept; or by the sha256 that the plan says."""
    there.files["/a"] = File(CONTENT, etag='"two"')
    said = get(machine, there, "/a")
    assert (said["status"], said["error"]) == (412, "its server has another content now")
    said = get(machine, there, "/a", etag="", sha256="ab" * 32)
    assert said["error"] == "what arrived has another sha256 than is asked for"
    assert not (machine.workspace / "data/x").exists()
