"""A tar of many files that is nowhere on the machine's disk, sent in parts as it would be read."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.engine import packs
from tests.agent.conftest import AGENT, Machine, eventually
from tests.agent.test_agent_artifacts import Store, crc, parts, store, target

sys.path.insert(0, str(AGENT))
from gpuplan_agent import tarball

__all__ = ["store"]
LONG = "long/" + "ä" * 60 + "/" + "n" * 150
NAMES = [f"frames/{number:04}.txt" for number in range(30)] + ["frames/empty", "frames/run.sh", f"frames/{LONG}"]


@pytest.fixture
def folder(machine: Machine) -> Path:
    """A folder with small files, an empty one, one that may be run, and one with a long name beyond ASCII."""
    for number, name in enumerate(NAMES):
        path = machine.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name.endswith("empty") else os.urandom(300 * number + 1))
    (machine.workspace / "frames/run.sh").chmod(0o700)
    return machine.workspace / "frames"


def pack(machine: Machine, **facts: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last line, and the members."""
    lines = machine.lines("pack", **{"folder": "frames", "patterns": ["frames/**"], **facts})
    return lines[-1], [one for line in lines for one in line.get("members", ())]


def sent(store: Store, count: int) -> bytes:
    return b"".join(store.stored[target(number)] for number in range(1, count + 1))


def whole(machine: Machine, store: Store, size: int, part: int) -> bytes:
    """All of the tar, put in parts."""
    rows = parts(store, bytes(size), part, [200])
    assert machine.ask("put", path="frames.tar", tar=True, parts=rows) == {"ok": True, "stored": len(rows), "failed": 0}
    return sent(store, len(rows))


def test_the_systems_tar_reads_what_was_sent(machine: Machine, store: Store, folder: Path, tmp_path: Path):
    """Every file with its bytes and its right to be run, from a tar that no disk of the machine has seen."""
    last, members = pack(machine)
    assert (last["ok"], [one["path"] for one in members]) == (True, sorted(NAMES))
    data = whole(machine, store, last["bytes"], 17_000)
    assert hashlib.sha256(data).hexdigest() == last["sha256"]
    assert not list(machine.workspace.rglob("*.tar"))
    (tmp_path / "x.tar").write_bytes(data)
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(["tar", "-xf", str(tmp_path / "x.tar"), "-C", str(out)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    for name in NAMES:
        assert (out / name).read_bytes() == (machine.workspace / name).read_bytes()
        assert os.access(out / name, os.X_OK) == name.endswith(".sh")
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert {(one.uid, one.gid, one.uname, one.mtime) for one in tar} == {(0, 0, "", tarball.MTIME)}


def test_its_parts_have_the_checksums_of_the_tar(machine: Machine, store: Store, folder: Path):
    """SHA-256, MD5, CRC-32 of the whole and of each part are those of the bytes that are sent."""
    last, _ = pack(machine)
    sums = machine.ask("checksums", path="frames.tar", tar=True, part_bytes=17_000, md5=True, parts_md5=True)
    data = whole(machine, store, last["bytes"], 17_000)
    (machine.workspace / "copy").write_bytes(data)
    assert sums == machine.ask("checksums", path="copy", part_bytes=17_000, md5=True, parts_md5=True)
    assert [row["crc32"] for row in sums["parts"]] == [
        crc(data[at : at + 17_000]) for at in range(0, len(data), 17_000)
    ]


def test_five_thousand_files_are_one_object(machine: Machine, store: Store):
    """In a time that the number of files does not blow up; the same again where nothing has changed."""
    for number in range(5000):
        path = machine.workspace / f"frames/{number // 100}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * 7)
    last, members = pack(machine)
    assert (len(members), last["bytes"]) == (5000, 5_130_240)
    data = whole(machine, store, last["bytes"], 5 << 20)
    assert hashlib.sha256(data).hexdigest() == last["sha256"]
    assert pack(machine) == (last, members)


def test_a_killed_agent_is_gone_on_with(machine: Machine, store: Store, folder: Path):
    """`kill -9` in the middle of the parts: another process makes the others, and the sha256 is the one that was said.

    Between the two every file has been touched and lies in another inode, as on a volume that was mounted anew.
    """
    last, _ = pack(machine)
    rows = parts(store, bytes(last["bytes"]), 17_000, [200])
    store.scripted = {target(number): [-1] for number in range(3, 20)}  # the store hangs
    process = machine.begin("put", path="frames.tar", tar=True, parts=rows)
    eventually(lambda: {target(1), target(2)} <= store.stored.keys())
    process.send_signal(signal.SIGKILL)
    assert not any(line.get("ok") for line in machine.replies(process))
    store.scripted = {}
    for name in NAMES:
        path = machine.workspace / name
        (path.parent / "new").write_bytes(path.read_bytes())
        (path.parent / "new").chmod(path.stat().st_mode)
        (path.parent / "new").replace(path)
    missing = [row for row in rows if target(row["number"]) not in store.stored]
    assert len(missing) < len(rows)
    assert machine.ask("put", path="frames.tar", tar=True, parts=missing)["stored"] == len(missing)
    assert hashlib.sha256(sent(store, len(rows))).hexdigest() == last["sha256"]


@pytest.mark.parametrize("size", [301, 10, 3000])
def test_a_file_that_changed_between_parts_is_named(machine: Machine, store: Store, folder: Path, size: int):
    """Of the same size, shorter or longer: whoever asks for its bytes or for checksums hears its name."""
    last, _ = pack(machine)
    rows = parts(store, bytes(last["bytes"]), 17_000, [200])
    assert machine.ask("put", path="frames.tar", tar=True, parts=rows[:2])["stored"] == 2
    (folder / "0029.txt").write_bytes(b"x" * (8701 if size == 301 else size))
    assert machine.ask("put", path="frames.tar", tar=True, parts=rows[:1])["stored"] == 1
    for reply in (
        machine.ask("put", path="frames.tar", tar=True, parts=rows),
        machine.ask("checksums", path="frames.tar", tar=True, part_bytes=17_000),
    ):
        assert reply["code"] == "changed"
        assert "frames/0029.txt changed after it was packed" in reply["message"]
    assert pack(machine)[0]["sha256"] != last["sha256"]


def test_a_file_that_is_gone_is_named(machine: Machine, folder: Path):
    """And a pipe in its place is not waited for."""
    pack(machine)
    (folder / "0003.txt").unlink()
    reply = machine.ask("checksums", path="frames.tar", tar=True, part_bytes=17_000)
    assert (reply["code"], "0003.txt cannot be read any more" in reply["message"]) == ("changed", True)
    os.mkfifo(folder / "0003.txt")
    assert machine.ask("checksums", path="frames.tar", tar=True, part_bytes=17_000)["code"] == "no_file"


def test_links_that_lead_out_are_said(machine: Machine, folder: Path):
    """A link to a file of the workspace is that file; one that leads out is none, and its name is said."""
    (folder / "inside").symlink_to(folder / "0001.txt")
    (folder / "passwd").symlink_to("/etc/passwd")
    last, members = pack(machine, patterns=["frames/*"])
    found = {one["path"]: one["sha256"] for one in members}
    assert last["outside"] == ["frames/passwd"]
    assert found["frames/inside"] == found["frames/0001.txt"]
    assert "frames/passwd" not in found


def test_what_was_not_packed_cannot_be_sent(machine: Machine):
    """By a name that nothing was packed as, or one that leads elsewhere."""
    for path in ("none.tar", "../x.tar"):
        assert machine.ask("checksums", path=path, tar=True, part_bytes=1000)["code"] == "no_file"


@pytest.mark.parametrize(
    ("name", "size"), [("a", 0), ("a" * 100, 1), ("a" * 101, 1), ("ä", 1), ("é" * 200, 8**11 - 1), ("b", 8**11)]
)
def test_both_sides_know_one_layout(name: str, size: int):
    """The controller's headers are the machine's, and tarfile reads in them what was meant."""
    for executable in (False, True):
        top = tarball.header(name, size, executable=executable)
        assert top == packs.header(name, size, executable=executable)
    info = tarfile.TarFile(fileobj=io.BytesIO(top + bytes(1024))).next()
    assert info
    assert (info.name, info.size, info.mode, info.type) == (name, size, 0o755, tarfile.REGTYPE)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 1500), max_size=6), st.data())
def test_any_range_is_that_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
):
    """Wherever it begins and ends: in a header, in a file, in the zeros behind one."""
    folder = tmp_path_factory.mktemp("range")
    members = []
    for number, size in enumerate(sizes):
        path = folder / str(number)
        path.write_bytes(os.urandom(size))
        status = path.stat()
        facts = (size, False, status.st_mtime_ns, status.st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        members.append(tarball.Member(f"x/{number}" * (50 if number % 2 else 1), str(path), *facts))
    tar = tarball.Tar(members)
    whole = b"".join(tar.read(0, tar.size))
    assert len(whole) == tar.size
    low = data.draw(st.integers(0, tar.size))
    high = data.draw(st.integers(low, min(low + 4000, tar.size)))
    assert b"".join(tar.read(low, high - low)) == whole[low:high]
