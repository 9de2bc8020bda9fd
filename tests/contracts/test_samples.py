"""What stands for an input in a rehearsal lies in the rehearsed store, where its machines fetch it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.rehearsal.s3_gate import BUCKET
from orchestrator.storage import open_source, open_store
from orchestrator.words.model import Input
from orchestrator.words.store import ArtifactStore
from orchestrator.world import samples
from tests.contracts.contract_stores import Served, fetched

Lay = Callable[..., dict[str, bytes]]


@pytest.fixture
def lay(s3: Served) -> Lay:
    """What the input's stand-in then consists of: name -> content."""
    access = s3.open()._access  # type: ignore[attr-defined]  # what the fixture has opened it with

    def store(url: str) -> ArtifactStore:
        return open_store(url, access)

    def found(source: str, sample: Path | None = None) -> dict[str, bytes]:
        one = Input.model_validate({"from": source, "to": "data/x", "sample": str(sample or "")})
        address = samples.lay(one, store)
        assert address.startswith(f"s3://{BUCKET}/inputs/")
        at = open_source(address, access)
        return {file.name: fetched(at, file) for file in at.listing()}

    return found


def test_one_small_file_stands_for_it(lay: Lay):
    """By the object's own name where the address has one."""
    assert list(lay("s3://mine/train/")) == ["stand-in.txt"]
    assert list(lay("s3://mine/train/a.csv")) == ["a.csv"]
    assert lay("https://a.example/b.bin?x=1") == {
        "b.bin": b"This stands for https://a.example/b.bin?x=1 in a rehearsal.\n"
    }


def test_a_sample_stands_for_it(lay: Lay, tmp_path: Path):
    """A file under the name that is asked for, a folder with all that is in it but links; a changed one alone."""
    (tmp_path / "some/deep").mkdir(parents=True)
    (tmp_path / "some/a.csv").write_bytes(b"1,2")
    (tmp_path / "some/deep/empty").write_bytes(b"")
    (tmp_path / "some/link").symlink_to("/etc/hostname")
    some = tmp_path / "some"
    assert lay("s3://mine/train.v2", some) == {"a.csv": b"1,2", "deep/empty": b""}
    (some / "a.csv").rename(some / "b.csv")
    assert lay("s3://mine/train.v2", some) == {"b.csv": b"1,2", "deep/empty": b""}
    assert lay("s3://mine/train/x.csv", some / "b.csv") == {"x.csv": b"1,2"}
    assert lay("s3://mine/train", some / "b.csv") == {"b.csv": b"1,2"}
    assert lay("https://a.example/y.csv", some / "b.csv") == {"y.csv": b"1,2"}
