"""Names, sizes and places of artifacts are decided at home, whatever the machine lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engine import artifacts
from orchestrator.engine.artifacts import STALLS
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.fetching import fetch_all
from orchestrator.testing.clock import ManualClock
from orchestrator.testing.store import MemoryStore
from orchestrator.words.errors import ConnectionLost, MachineLost, StepFailed
from tests.transport.agent_operations import agent_that_says
from tests.unit.engine import stepbench
from tests.unit.engine.stepping import SteppingClock, context


def listing(*names: str, globs: tuple[str, ...] = ("**", "out/.env*")) -> list[str]:
    """The manifest of a machine that lists these files."""
    files = [{"path": name, "bytes": 1, "mtime": 0, "sha256": "00"} for name in names]
    agent = agent_that_says(json.dumps({"ok": True, "files": files}).encode())
    return [file.name for file in artifacts.manifest(agent, "/w", globs)]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["../x"], "makes no sense"),
        (["/etc/passwd"], "makes no sense"),
        ([".git/config"], "git's own"),
        (["a/.GIT/hooks/post-checkout"], "git's own"),
        ([".bashrc"], "is hidden"),
        (["a/.vscode/tasks.json"], "is hidden"),
        (["model.m", "MODEL.m"], "differ by case"),
        (["model.m.partial"], "half a file"),
        (["a\nb"], "cannot take"),
        (["a\u202eb"], "cannot take"),
    ],
)
def test_a_name_that_would_do_harm_at_home_is_refused(names: list[str], why: str):
    """Ways out, git's folder, hidden files that no glob says, names alike by case, halves: one error."""
    with pytest.raises(StepFailed, match=why):
        listing(*names)


def test_what_the_globs_say_is_taken():
    """Ordinary names, in folders too, and hidden ones that a glob says."""
    assert listing("b/c.json", "a.m", "out/.env.example") == ["a.m", "b/c.json", "out/.env.example"]


def file_of(content: bytes, name: str = "results/a.json") -> ManifestFile:
    """What a manifest says of it."""
    return ManifestFile(name, len(content), hashlib.sha256(content).hexdigest())


def fetched(folder: Path, content: bytes, said: ManifestFile, *, force: bool = False) -> Path:
    """What comes of fetching it from a store."""
    store = MemoryStore()
    store.objects[said.name] = content
    fetch_all(store, [said], artifacts.Home(folder, folder / "runs", force), ManualClock())
    return folder / said.name


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", ""])
def test_a_manifest_of_an_earlier_run_leads_nowhere_else(tmp_path: Path, name: str):
    """A name that leaves its folder is refused where it is fetched too, whoever wrote the manifest."""
    home = tmp_path / "a" / "home"
    home.mkdir(parents=True)
    with pytest.raises(StepFailed, match="leaves its folder"):
        fetched(home, b"x", file_of(b"x", name))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_gpuplan_did_not_fetch_is_never_replaced(tmp_path: Path):
    """A file of the user's of the same name stays as it is, unless --force says otherwise."""
    mine = tmp_path / "results/a.json"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(StepFailed, match="not what gpuplan fetched"):
        fetched(tmp_path, b"theirs", file_of(b"theirs"))
    assert mine.read_text() == "mine"
    assert fetched(tmp_path, b"theirs", file_of(b"theirs"), force=True).read_bytes() == b"theirs"


def test_what_an_earlier_run_listed_is_replaced(tmp_path: Path):
    """A file that is what a run of this home had listed under that name may be brought up to date."""
    earlier = file_of(b"earlier")
    run = tmp_path / "runs" / "1"
    run.mkdir(parents=True)
    (run / "manifest-only.json").write_text(json.dumps([{"name": earlier.name, "bytes": 7, "sha256": earlier.sha256}]))
    fetched(tmp_path, b"earlier", earlier)
    assert fetched(tmp_path, b"later", file_of(b"later")).read_bytes() == b"later"


def test_a_link_at_home_is_not_written_through(tmp_path: Path):
    """A link where a file would come to lie is refused, and what it points at stays."""
    (tmp_path / "results").mkdir()
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "results/a.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StepFailed, match="not what gpuplan fetched"):
        fetched(tmp_path, b"theirs", file_of(b"theirs"), force=True)
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_a_store_sends_no_more_than_was_listed(tmp_path: Path):
    """What is longer than the manifest says ends in an error, and takes no room."""
    with pytest.raises(StepFailed, match="not the 5 of the manifest"):
        fetched(tmp_path, b"x" * (1 << 20), file_of(b"five!"))
    assert not (tmp_path / "results/a.json.partial").exists()


def test_a_machine_sends_no_more_than_was_listed(tmp_path: Path):
    """A file that has grown, or that never ends, is given up at the first byte beyond the size that was listed."""
    bench = stepbench.Bench(tmp_path)

    def grown(path: str, offset: int = 0) -> Iterator[bytes]:
        yield b"x" * (1 << 20)
        yield b"x"

    machine = SimpleNamespace(transport=SimpleNamespace(fetch=grown))
    context = replace(bench.context, agents=stepbench.always(machine))
    with pytest.raises(StepFailed, match="longer than"):
        artifacts.pull(context, "m", "/w", replace(file_of(b""), bytes=1 << 20), tmp_path / "home")
    assert (tmp_path / "home/results/a.json.partial").stat().st_size == 0


@pytest.mark.parametrize(("there", "offsets"), [(0, [0, 3]), (2, [2, 5]), (9, [0, 3])])
def test_a_machines_file_is_gone_on_with(tmp_path: Path, there: int, offsets: list[int]):
    """After a cut, and after an earlier run, only what is missing is asked for; half a file that is too long is not."""
    asked = list[int]()

    def cut(path: str, offset: int = 0) -> Iterator[bytes]:
        asked.append(offset)
        yield b"abcdefgh"[offset : offset + 3]
        if len(asked) == 1:
            raise ConnectionLost("cut")
        yield b"abcdefgh"[offset + 3 :]

    machine = SimpleNamespace(transport=SimpleNamespace(fetch=cut))
    made = context(tmp_path, SteppingClock())
    made.agents = stepbench.always(machine)
    made.control.pause = made.clock.sleep
    (tmp_path / "home/results").mkdir(parents=True)
    (tmp_path / "home/results/a.json.partial").write_bytes(b"abcdefghi"[:there])
    artifacts.pull(made, "m", "/w", file_of(b"abcdefgh"), tmp_path / "home")
    assert (tmp_path / "home/results/a.json").read_bytes() == b"abcdefgh"
    assert asked == offsets


def test_a_file_that_no_disk_has_room_for_is_refused(tmp_path: Path):
    """A size beyond what is free here is an error before the first byte."""
    with pytest.raises(StepFailed, match="disk full"):
        artifacts.make_place(
            tmp_path / "a", tmp_path / "b", replace(file_of(b"x"), bytes=1 << 60), tmp_path, force=False
        )


@pytest.mark.parametrize(("arrives", "tries"), [([0] * 99, STALLS), ([0, 1, 0, 1, *[0] * 99], STALLS + 4)])
def test_a_machine_that_sends_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrives: list[int], tries: int
):
    """After so many cuts without a byte in between; one that brings some begins the count anew."""
    made = context(tmp_path, SteppingClock())
    asked = 0

    def cut(_context: Any, _machine: str, _path: str, partial: Path, *_: object) -> None:
        nonlocal asked
        with partial.open("ab") as out:
            out.write(b"x" * arrives[asked])
        asked += 1
        raise ConnectionLost("cut")

    monkeypatch.setattr(artifacts, "_fetch", cut)
    made.control.pause = made.clock.sleep
    with pytest.raises(MachineLost, match=r"a\.txt could not be fetched: cut"):
        artifacts.pull(made, "m", "/w", ManifestFile("a.txt", 100, "0" * 64), tmp_path / "home")
    assert asked == tries
