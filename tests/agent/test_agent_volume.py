"""What the agent does on the volume: documents, file lists, leases."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any

import pytest

from tests.agent.conftest import Machine, eventually


def listed(machine: Machine, patterns: list[str], **facts: Any) -> list[str]:
    reply = machine.ask("files", root=str(machine.workspace), patterns=patterns, **facts)
    return [entry["path"] for entry in reply["files"]]


def put(machine: Machine, path: str, text: str = "x") -> None:
    (machine.workspace / path).parent.mkdir(parents=True, exist_ok=True)
    (machine.workspace / path).write_text(text)


def test_files_are_found_by_glob(machine: Machine):
    """A glob finds regular files, ** through folders; each once; names may be awkward."""
    for path in ("a/one.m", "a/b/two.m", "out put/-rf.m", "it's [1].m", "three.t"):
        put(machine, path)
    assert listed(machine, ["**/*.m"]) == ["a/b/two.m", "a/one.m", "it's [1].m", "out put/-rf.m"]
    assert listed(machine, ["out put/*.m", "out put/-rf.m", "three.t"]) == ["out put/-rf.m", "three.t"]
    assert listed(machine, ["a/**"]) == ["a/b/two.m", "a/one.m"]
    assert listed(machine, ["it's [[]1].m"]) == ["it's [1].m"]
    assert listed(machine, ["nothing/*"]) == []


def test_used_bytes(machine: Machine):
    """Everything in the workspace, hidden files too; a file under two names counts once."""
    (machine.workspace / ".hidden").mkdir()
    (machine.workspace / ".hidden" / "a").write_bytes(b"x" * 1_000_000)
    once = machine.ask("used")["bytes"]
    assert 1_000_000 <= once < 1_500_000
    os.link(machine.workspace / ".hidden" / "a", machine.workspace / "b")
    assert machine.ask("used")["bytes"] == once


def test_a_link_to_a_file_of_the_workspace_is_that_file(machine: Machine):
    """Under its own name, with the file's size and sha256, also where the file is not below the root."""
    (machine.workspace / "kept").mkdir()
    (machine.workspace / "out").mkdir()
    (machine.workspace / "kept" / "model-7.m").write_bytes(b"seven")
    (machine.workspace / "out" / "latest.m").symlink_to("../kept/model-7.m")
    (machine.workspace / "out" / "gone.m").symlink_to("nowhere")
    (machine.workspace / "out" / "loop").symlink_to(".")
    reply = machine.ask("files", root="out", patterns=["**"], sha256=True)
    (found,) = reply["files"]
    assert (found["path"], found["bytes"]) == ("latest.m", 5)
    assert found["sha256"] == hashlib.sha256(b"seven").hexdigest()
    assert reply["outside"] == []


def test_what_lies_outside_is_left_out(machine: Machine):
    """Neither a link nor `..` leads a glob out of the workspace; links that would are named."""
    put(machine, "in/real")
    outside = machine.workspace.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (machine.workspace / "in" / "link").symlink_to(outside / "secret")
    (machine.workspace / "in" / "folder").symlink_to(outside)
    (machine.workspace / "in" / "inner").symlink_to("real")
    patterns = ["**", "in/folder/*", "../outside/*", str(outside / "*")]
    assert listed(machine, patterns) == ["in/inner", "in/real"]
    reply = machine.ask("files", root=str(machine.workspace), patterns=patterns)
    assert reply["outside"] == ["in/folder", "in/link"]


def test_checksums_are_remembered_for_as_long_as_the_file_is_the_same(machine: Machine):
    """A file's sha256 comes with it on request; a file that changed is hashed again, one that did not is not."""
    put(machine, "f", "one")
    first = machine.ask("files", root=str(machine.workspace), patterns=["f"], sha256=True)["files"][0]
    assert first["sha256"] == hashlib.sha256(b"one").hexdigest()
    assert first["bytes"] == 3
    cache = machine.home / ".gpuplan" / "sha256.json"
    known = json.loads(cache.read_text())
    known[str(machine.workspace / "f")][3] = "remembered"
    cache.write_text(json.dumps(known))
    again = machine.ask("files", root=str(machine.workspace), patterns=["f"], sha256=True)["files"][0]
    assert again["sha256"] == "remembered"
    put(machine, "f", "two")
    os.utime(machine.workspace / "f", ns=(1, 1))
    changed = machine.ask("files", root=str(machine.workspace), patterns=["f"], sha256=True)["files"][0]
    assert changed["sha256"] == hashlib.sha256(b"two").hexdigest()


def test_documents_are_written_below_gpuplan_only(machine: Machine):
    """A document can be written, read, listed and removed below the workspace's .gpuplan, and nowhere else."""
    assert machine.ask("read", path=".gpuplan/done/key.json") == {"ok": True, "text": None}
    assert machine.ask("write", path=".gpuplan/done/key.json", text="grüße")["ok"]
    assert machine.ask("read", path=".gpuplan/done/key.json")["text"] == "grüße"
    assert machine.ask("list", path=".gpuplan/done")["names"] == ["key.json"]
    assert machine.ask("list", path=".gpuplan/none")["names"] == []
    (machine.workspace / ".gpuplan" / "link").symlink_to(machine.workspace)
    for path in ("x", ".gpuplan", ".gpuplan/../x", "/etc/x", ".gpuplan/link/x"):
        assert machine.ask("write", path=path, text="")["code"] == "outside", path
        assert machine.ask("remove", path=path)["code"] == "outside", path
    assert machine.ask("remove", path=".gpuplan/done")["removed"]
    assert not machine.ask("remove", path=".gpuplan/done")["removed"]
    assert not (machine.workspace / ".gpuplan" / "done").exists()


def test_a_document_is_never_seen_half_written(machine: Machine):
    """Whoever reads while a document is being replaced gets the old one or the new one, whole."""
    sizes = {100_000, 200_000}
    machine.ask("write", path=".gpuplan/d", text="a" * 100_000)
    writers = [machine.begin("write", path=".gpuplan/d", text="b" * size) for size in sizes for _ in range(3)]
    while any(writer.poll() is None for writer in writers):
        assert len((machine.workspace / ".gpuplan" / "d").read_text()) in sizes
    for writer in writers:
        machine.replies(writer)
    assert [path.name for path in (machine.workspace / ".gpuplan").iterdir()] == ["d"]


def test_incomplete_downloads_are_removed(machine: Machine):
    """What a killed download left is removed, and nothing else of the checkout."""
    put(machine, "M/.cache/huggingface/download/a/x.incomplete", "12345")
    put(machine, "M/.cache/huggingface/download/x.metadata")
    put(machine, "M/kept.incomplete")
    reply = machine.ask("clean_incomplete", dir="M")
    assert (reply["removed"], reply["bytes"]) == (1, 5)
    assert (machine.workspace / "M" / ".cache/huggingface/download/x.metadata").exists()
    assert (machine.workspace / "M" / "kept.incomplete").exists()
    assert machine.ask("clean_incomplete", dir="none")["removed"] == 0


def lease(machine: Machine, holder: str, action: str = "acquire", ttl_s: float = 60.0) -> dict[str, Any]:
    return machine.ask("lease", name="volume", holder=holder, ttl_s=ttl_s, action=action)


def test_a_lease_has_one_holder(machine: Machine):
    """A lease is refused to others until it is released; its holder keeps it."""
    assert lease(machine, "a")["ok"]
    assert lease(machine, "a")["ok"], "acquiring again is renewing"
    refused = lease(machine, "b")
    assert (refused["code"], refused["holder"]) == ("held", "a")
    assert refused["expires"] > time.time() + 30
    assert lease(machine, "b", "renew")["code"] == "held"
    assert lease(machine, "b", "release")["ok"], "releasing what one does not have does nothing"
    assert lease(machine, "a", "renew")["ok"]
    assert lease(machine, "a", "release")["ok"]
    assert lease(machine, "b")["ok"]


def test_a_lease_that_nobody_renews_is_taken_over(machine: Machine):
    """One that lies unchanged for a whole ttl goes to who waited for it, and its former holder finds it lost."""
    assert lease(machine, "a")["ok"]
    assert lease(machine, "b")["code"] == "held"
    assert lease(machine, "b", "await", ttl_s=0.2)["ok"]
    assert lease(machine, "a", "renew")["code"] == "held"
    assert lease(machine, "nobody", "renew")["code"] == "held"


def test_what_a_holders_clock_says_frees_no_lease(machine: Machine):
    """A lease that by this machine's clock ran out long ago is its living holder's, who keeps it by renewing it."""
    assert lease(machine, "a", ttl_s=-3600.0)["ok"]
    assert lease(machine, "b")["code"] == "held"
    waiting = machine.begin("lease", name="volume", holder="b", ttl_s=60.0, action="await")
    eventually(lambda: lease(machine, "a", "renew", ttl_s=-3600.0)["ok"] and waiting.poll() is not None, 60)
    reply = machine.replies(waiting)[-1]
    assert (reply["code"], reply["holder"]) == ("held", "a")


def test_a_lease_that_is_released_is_not_waited_for(machine: Machine):
    """Whoever waits for a lease has it as soon as its holder lets it go."""
    assert lease(machine, "a")["ok"]
    waiting = machine.begin("lease", name="volume", holder="b", ttl_s=3600.0, action="await")
    assert lease(machine, "a", "release")["ok"]
    assert machine.replies(waiting)[-1]["ok"]


@pytest.mark.parametrize("before", ["free", "released"])
def test_of_twenty_one_gets_the_lease(machine: Machine, before: str):
    """Of twenty who ask at the same moment for a free or a released lease, exactly one has it."""
    if before == "released":
        lease(machine, "before")
        lease(machine, "before", "release")
    facts = {"name": "volume", "ttl_s": 60.0, "action": "acquire"}
    asking = [machine.begin("lease", holder=f"holder-{number}", **facts) for number in range(20)]
    replies = [machine.replies(process)[-1] for process in asking]
    winners = [number for number, reply in enumerate(replies) if reply["ok"]]
    assert len(winners) == 1, replies
    assert {reply["holder"] for reply in replies if not reply["ok"]} == {f"holder-{winners[0]}"}
    assert len(list((machine.workspace / ".gpuplan" / "leases").iterdir())) == 1
