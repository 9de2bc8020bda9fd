"""What a step leaves where the agent reads: pipes and devices, caches, and its word on what it wrote."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.agent.conftest import Machine


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("op", ["checksums", "put", "read"])
def test_a_pipe_is_refused_and_not_waited_for(machine: Machine, op: str):
    """Where a file should be, a pipe that nobody writes to holds nothing up."""
    _pipe(machine.workspace / "artifact")
    part = {"number": 1, "offset": 0, "length": 1, "url": "http://127.0.0.1:9/", "headers": {}, "accept": [200]}
    reply = machine.ask(op, path="artifact", part_bytes=1 << 20, parts=[part])
    assert reply["code"] == "no_file"


def test_a_device_is_no_file(machine: Machine):
    """A device is not read, however much it would give."""
    (machine.workspace / "zero").symlink_to("/dev/zero")
    assert machine.ask("checksums", path="zero", part_bytes=1)["code"] == "no_file"


@pytest.mark.parametrize("name", ["GPUPLAN_METRICS", "GPUPLAN_CHECKSUMS", "GPUPLAN_PROGRESS"])
def test_a_pipe_for_its_own_words_does_not_keep_a_job_from_ending(machine: Machine, name: str):
    """A step that puts a pipe where its figures or checksums belong has said nothing, and ends."""
    log, end = machine.run("job", f'mkfifo "${name}"')
    assert end["exit"] == 0, log
    assert machine.ask("published", job="job")["files"] == {}


def test_a_step_publishes_checksums_of_what_it_wrote(machine: Machine):
    """Lines as sha256sum writes them count, the last one of a file; anything else is left out."""
    command = (
        'cd "$WORKSPACE"; printf one >a; printf two >"b c"; sha256sum a >>"$GPUPLAN_CHECKSUMS"; '
        'printf new >a; sha256sum a "b c" >>"$GPUPLAN_CHECKSUMS"; echo nonsense >>"$GPUPLAN_CHECKSUMS"'
    )
    assert machine.run("job", command)[1]["exit"] == 0
    top = machine.workspace
    assert machine.ask("published", job="job")["files"] == {
        f"{top}/a": hashlib.sha256(b"new").hexdigest(),
        f"{top}/b c": hashlib.sha256(b"two").hexdigest(),
    }
    assert machine.ask("published", job="none")["files"] == {}


def test_samples_see_what_a_size_does_not(machine: Machine):
    """Pieces of a file tell that its beginning, its end or a stretch of it changed, without reading all of it."""
    file = machine.workspace / "model"
    seen = set()
    for at in (None, 0, 500_000, 999_999):
        content = bytearray(1_000_000)
        if at is not None:
            content[at : at + 150_000] = b"x" * min(150_000, 1_000_000 - at)
        file.write_bytes(content)
        (entry,) = machine.ask("files", root=".", patterns=["model"], samples=True)["files"]
        assert "sha256" not in entry
        seen.add((entry["bytes"], entry["samples"]))
    assert len(seen) == 4
    (machine.workspace / "empty").touch()
    (entry,) = machine.ask("files", root=".", patterns=["empty"], samples=True)["files"]
    assert len(entry["samples"]) == 64


def test_what_compilers_keep_is_on_the_machines_own_disk(machine: Machine):
    """No step leaves compiled code on the volume for another machine, unless the image or the step says where."""
    said = 'echo "$NUMBA_CACHE_DIR:$TRITON_CACHE_DIR:$PYTHONDONTWRITEBYTECODE"'
    own = machine.home / ".gpuplan" / "cache"
    assert machine.run("job", said)[0] == f"{own}/numba:{own}/triton:1\n"
    machine.environ.write_text("NUMBA_CACHE_DIR=/image/warm")
    assert machine.run("again", said)[0] == f"/image/warm:{own}/triton:1\n"
