"""A download from a branch: which files are meant, and at which commit, however the branch moves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.config import load_plan
from orchestrator.engine import hub_check
from orchestrator.plan.keys import _hub
from orchestrator.testing.bench import Bench, BenchHub, World
from orchestrator.testing.machine import Script, ScriptedMachine
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.model import HubCheckout

PLAN = """
name: get
machine: {gpu: [RTX-4090]}
volume: {name: data, size_gb: 10}
steps:
  - name: fetch
    run: fetch
    hub: {repo: o/m, dir: m, exclude: ["*.bin", "old/"]}
    creates: [m/*.json, "m/*.safetensors", up/.git/HEAD]
deliverables: [{name: there, checkpoint: m}]
"""
INDEX = json.dumps({"weight_map": {"w": "w.safetensors"}})
CLONED = "b" * 40
INDEXED = {"m/model.safetensors.index.json": INDEX, "m/w.safetensors": "12345", "up/.git/HEAD": CLONED}
FIRST = [
    ("model.safetensors.index.json", len(INDEX), None),
    ("w.safetensors", 5, hashlib.sha256(b"12345").hexdigest()),
    ("w.bin", 9, None),
    ("old/w.safetensors", 9, None),
]
SECOND = [FIRST[0], ("w.safetensors", 5, hashlib.sha256(b"54321").hexdigest()), *FIRST[2:]]
HUB = {"o/m": {"c1": FIRST, "c2": SECOND}}


def bench(folder: Path, files: dict[str, str], moves: int) -> Bench:
    (folder / "plan").mkdir()
    (folder / "plan" / "get.yaml").write_text(PLAN)
    world = World(scripts={"fetch": Script(creates=files)}, hub=HUB, hub_moves=moves)
    (folder / "home").mkdir()
    return Bench(load_plan(folder / "plan", environ={}), ("get",), world, folder / "home")


def record(made: Bench) -> dict[str, Any]:
    (disk,) = made._disks.values()
    found: dict[str, Any] = json.loads(disk.files["/workspace/.gpuplan/done/get.fetch.json"])
    return found


def recorded(made: Bench) -> str:
    return str(record(made)["commit"])


def test_what_is_excluded_is_not_missed(tmp_path: Path):
    """Neither by a pattern over files nor by a folder; what is left is compared, and the commit is kept."""
    made = bench(tmp_path, INDEXED, 1000)
    assert made.controller().run().outcome == Outcome.SUCCEEDED
    assert recorded(made) == "c1"
    (row,) = made.ledger().deliverables.all()
    assert "sha256 as the hub's at c1" in row.detail


def test_the_record_has_the_checksums_that_the_check_computed(tmp_path: Path):
    """What was read to compare it with the hub's list is not read again; a clone beside it has its own commit."""
    made = bench(tmp_path, INDEXED, 1000)
    assert made.controller().run().outcome == Outcome.SUCCEEDED
    found = record(made)
    assert {file["path"]: file["sha256"] for file in found["files"]} == {
        "m/model.safetensors.index.json": hashlib.sha256(INDEX.encode()).hexdigest(),
        "m/w.safetensors": hashlib.sha256(b"12345").hexdigest(),
        "up/.git/HEAD": "",
    }
    assert (found["commit"], found["clones"]) == ("c1", {"up": CLONED})


def test_a_branch_that_moves_after_the_download_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Asked once, before the first byte: check, record and deliverable are of that commit; the step is told it."""
    told: list[Any] = []
    start = ScriptedMachine._op_start

    def listen(self: ScriptedMachine, request: Any) -> Any:
        told.append(request)
        return start(self, request)

    monkeypatch.setattr(ScriptedMachine, "_op_start", listen)
    made = bench(tmp_path, INDEXED, 1)
    controller = made.controller()
    assert controller.run().outcome == Outcome.SUCCEEDED
    hub = controller.context.hub
    assert isinstance(hub, BenchHub)
    assert (recorded(made), hub.looks) == ("c1", ["o/m"])
    assert told[0]["env"]["GPUPLAN_HUB_COMMIT"] == "c1"


def test_a_branch_that_moved_before_its_download(tmp_path: Path):
    """The files are the new commit's: that one is taken, and said; files of neither are refused."""
    made = bench(tmp_path, {**INDEXED, "m/w.safetensors": "54321"}, 1)
    (tmp_path / "none").mkdir()
    assert made.controller().run().outcome == Outcome.SUCCEEDED
    assert recorded(made) == "c2"
    short = bench(tmp_path / "none", {"m/model.safetensors.index.json": INDEX}, 1)
    assert short.controller().run().outcome == Outcome.FAILED
    (phase,) = short.ledger().phases.all()
    assert "is not what o/m holds at c1: w.safetensors is missing" in phase.error
    assert any("main moved from c1 to c2" in e.text for e in short.ledger().newest_events(short.spec.run, 50))


def test_patterns_are_those_of_the_hubs_own_client():
    """`*` crosses folders, a folder ends in a slash, exclude goes before include."""
    some = HubCheckout(repo="r", dir="d", include=("*.json", "sub/"), exclude=("*tokenizer*",))
    wanted = ("config.json", "a/b.json", "sub/x.bin")
    others = ("x.bin", "sub2/x", "tokenizer.json", "Config.JSON")
    assert [path for path in (*wanted, *others) if some.wants(path)] == list(wanted)
    huggingface_hub = pytest.importorskip("huggingface_hub.utils")
    theirs = huggingface_hub.filter_repo_objects(
        (*wanted, *others), allow_patterns=["*.json", "sub/"], ignore_patterns=["*tokenizer*"]
    )
    assert list(theirs) == list(wanted)


def test_a_download_without_patterns_keeps_its_key():
    """What a finished download was recorded under knew of no patterns."""
    assert _hub(HubCheckout(repo="r", dir="d")) == {"repo": "r", "dir": "d", "revision": "main"}
    assert "include" in _hub(HubCheckout(repo="r", dir="d", include=("a",)))


@pytest.mark.parametrize(
    ("present", "gb"), [({}, 3.5), ({"a": 1}, 3.5), ({"a": 3_000_000_000}, 0.5), ({"b": 500_000_000}, 3.0)]
)
def test_what_is_there_whole_is_not_to_come(present: dict[str, int], gb: float):
    """By the hub's sizes: a file of another size comes anew, whole; what is not wanted does not come."""
    listing = [("a", 3_000_000_000, None), ("b", 500_000_000, None), ("c.bin", 9_000_000_000, None)]
    context = SimpleNamespace(hub=SimpleNamespace(listing=lambda _repo, _commit: listing))
    there = [SimpleNamespace(path=path, bytes=size) for path, size in present.items()]
    agent = SimpleNamespace(files=lambda _root, _patterns: there)
    checkout = HubCheckout(repo="o/m", dir="m", exclude=("*.bin",))
    assert hub_check.to_come_gb(cast("Any", context), cast("Any", agent), "/w", checkout, "c1") == gb
