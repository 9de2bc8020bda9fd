"""The payload: the same content is the same, it is pushed once, and what is there is checked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.transport.payload import Payload
from orchestrator.words.errors import StepFailed, UsageError
from tests.transport.conftest import Reached


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder laid out as remote/ is, with awkward names in it."""
    root = tmp_path / "my plan's dir"
    for name, text in {
        "bootstrap.sh": "#!/usr/bin/env bash\necho made\n",
        "tool/converter/a.py": "print('a')\n",
        "tool/run": "#!/bin/sh\necho ran\n",
        "tool/-rf": "dash\n",
        "tool/it's a $HOME/f": "quote\n",
        "tool/__pycache__/a.pyc": "cache",
        "other/file": "not part of it",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_content_alone_counts(source: Path, tmp_path: Path):
    """Neither place, times, modes nor caches change the hash; names and contents do."""
    first = Payload.load(source, "tool")
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    (copy / "tool" / "run").chmod(0o600)
    os.utime(copy / "tool" / "-rf", (1, 1))
    (copy / "tool" / "__pycache__" / "a.pyc").write_text("other")
    assert Payload.load(copy, "tool").hash == first.hash
    (copy / "tool" / "run").rename(copy / "tool" / "ran")
    renamed = Payload.load(copy, "tool").hash
    (copy / "bootstrap.sh").write_text("#!/bin/sh\n")
    assert len({first.hash, renamed, Payload.load(copy, "tool").hash}) == 3


def test_files_are_named_below_the_payloads_folder(source: Path):
    """`files` maps paths as the plan's `uses` names them to their sha256."""
    payload = Payload.load(source, "tool")
    assert sorted(payload.files) == ["-rf", "converter/a.py", "it's a $HOME/f", "run"]
    assert payload.files["-rf"] == hashlib.sha256(b"dash\n").hexdigest()
    assert payload.folder("/w") == f"/w/.gpuplan/payload/{payload.hash}"


def test_a_payload_that_is_not_there_is_a_mistake_of_the_user(source: Path):
    """A name that is no folder is a usage error that names it."""
    with pytest.raises(UsageError, match="none"):
        Payload.load(source, "none")


def test_a_frozen_copy_is_the_same_and_stays(source: Path, tmp_path: Path):
    """Freezing keeps what a run began with, whatever happens to the source."""
    payload = Payload.load(source, "tool")
    frozen = payload.freeze(tmp_path / "run" / "payload")
    assert frozen.hash == payload.hash
    (source / "tool" / "run").write_text("changed")
    again = Payload.load(source, "tool").freeze(tmp_path / "run" / "payload")
    assert (again.hash, again.files) == (payload.hash, payload.files)
    assert not (tmp_path / "run" / "payload" / "other").exists()


def test_push(reached: Reached, source: Path):
    """It arrives byte for byte with what can be run; a second push sends nothing; bootstrap runs from it."""
    payload = Payload.load(source, "tool")
    folder = Path(payload.push(reached.agent))
    assert folder == Path(payload.folder(str(reached.workspace)))
    assert (folder / "tool" / "it's a $HOME" / "f").read_text() == "quote\n"
    assert (folder / "tool" / "-rf").read_text() == "dash\n"
    assert subprocess.run([folder / "tool" / "run"], capture_output=True, check=True).stdout == b"ran\n"
    assert not (folder / "other").exists()
    assert not (folder / "tool" / "__pycache__").exists()
    inode = folder.stat().st_ino
    payload.push(reached.agent)
    assert folder.stat().st_ino == inode
    said: list[str] = []
    reached.agent.bootstrap(str(folder), said.append)
    assert said == ["made\n"]


@pytest.mark.parametrize("damage", ["changed", "missing", "bootstrap"])
def test_a_damaged_payload_is_pushed_again(reached: Reached, source: Path, damage: str):
    """Before it is used, every file on the volume is compared with what it should be."""
    payload = Payload.load(source, "tool")
    folder = Path(payload.push(reached.agent))
    if damage == "changed":
        (folder / "tool" / "run").write_text("#!/bin/sh\necho RAN\n")
    elif damage == "missing":
        (folder / "tool" / "-rf").unlink()
    else:
        (folder / "bootstrap.sh").write_text("exit 1\n")
    payload.push(reached.agent)
    assert (folder / "tool" / "run").read_text() == "#!/bin/sh\necho ran\n"
    assert (folder / "tool" / "-rf").exists()
    assert (folder / "bootstrap.sh").read_text() == (source / "bootstrap.sh").read_text()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_volume_that_cannot_be_written_is_named(reached: Reached, source: Path):
    """Where the payload cannot be put, the error says where and gives the machine's words."""
    payload = Payload.load(source, "tool")
    reached.agent.workspace = "/proc/version"
    with pytest.raises(StepFailed, match="/proc/version"):
        payload.push(reached.agent)
