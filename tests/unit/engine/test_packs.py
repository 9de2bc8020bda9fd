"""A packed folder: one object in the store, files again at home, and no tar but the one that was listed."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.engine import artifacts
from orchestrator.engine.artifacts import Home, manifest_packs, manifest_text
from orchestrator.engine.deliverables import Deliverables
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.fetching import fetch_all
from orchestrator.engine.packs import LARGEST, MTIME, UNIT, Pack, header
from orchestrator.engine.phase import PhaseWork
from orchestrator.engine.sources import Sources
from orchestrator.engine.unpacking import unpacked
from orchestrator.testing.bench import RUN, Bench
from orchestrator.testing.clock import ManualClock
from orchestrator.testing.store import MemoryStore
from orchestrator.words.errors import StepFailed
from orchestrator.words.lifecycle import Outcome, StepState
from orchestrator.words.model import Step
from tests.unit.engine import stepbench, stories

STORY = """\
world: {stores: 1}
scripts:
  make: {seconds: 60, creates: {out/a.txt: hello, out/b/c.txt: "", log.txt: said}}
phases:
  only:
    machine: {gpu: [RTX-4090]}
    volume: {name: data, size_gb: 10}
    steps: [{name: make, run: make, creates: [out, log.txt]}]
    deliverables:
      - {name: one saved, uploaded: out/b/c.txt}
      - {name: all saved, uploaded: out.tar}
      - {name: at home, pulled: out/**}
      - {name: all at home, pulled: out.tar}
    artifacts: ["out/**", log.txt]
    pack: {out: tar}
    pull_to: pulled
ends: {outcome: succeeded, creates: 1, runs: {make: 1}, volumes: 0}
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A phase that makes two files in a folder, which is packed, and one beside it."""
    monkeypatch.setattr(stories, "FOLDER", tmp_path)
    (tmp_path / "packed.yaml").write_text(STORY)
    (tmp_path / "home").mkdir()
    return stories.Story.load("packed", tmp_path / "plan").bench(tmp_path / "home")


def test_a_folder_is_one_object_and_files_at_home(bench: Bench):
    """The store has a tar that tarfile reads, home has the files, and deliverables may name either."""
    end = bench.controller().run()
    ledger = bench.ledger()
    told = {row.name: (row.ok, row.detail) for row in ledger.deliverables.all(run=RUN, phase="only")}
    assert end.outcome == Outcome.SUCCEEDED, told
    objects = bench.stores[0].objects
    assert sorted(objects) == ["log.txt", "manifest-only.json", "out.tar"]
    with tarfile.open(fileobj=io.BytesIO(objects["out.tar"])) as tar:
        assert tar.getnames() == ["out/a.txt", "out/b/c.txt"]
    home = bench.folder / "pulled/pulled"
    assert sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()) == [
        "log.txt", "out/a.txt", "out/b/c.txt",
    ]  # fmt: skip
    assert (home / "out/a.txt").read_text() == "hello"
    assert "1 file, 0 bytes verified" in told["one saved"][1]
    assert "2 files, 5 bytes verified" in told["all saved"][1]
    assert told["at home"] == told["all at home"]
    assert {row.name for row in ledger.artifacts.all(run=RUN)} == {"log.txt", "out.tar"}
    assert any("out.tar packs 2 files, 10,240 bytes" in row.text for row in ledger.events.all(run=RUN))


def test_without_a_store_each_file_comes_by_itself(bench: Bench):
    """From a machine there is nothing to pack: its files are at home."""
    bench.stores.clear()
    bench.spec = bench.spec.model_copy(update={"stores": ()})
    bench.controller().run()
    assert (bench.folder / "pulled/pulled/out/a.txt").read_text() == "hello"
    assert not list(bench.folder.rglob("*.tar"))


# -- which tars are taken ------------------------------------------------------------------------------------------


def packed(files: dict[str, bytes], *, executable: str = "") -> tuple[Pack, bytes]:
    """What a manifest lists of these files in a folder, and the tar of them."""
    members = tuple(ManifestFile(n, len(data), hashlib.sha256(data).hexdigest()) for n, data in files.items())
    tar = b"".join(
        header(name.removeprefix("top/"), len(data), executable=name == executable) + data + bytes(-len(data) % 512)
        for name, data in files.items()
    )
    tar += bytes(-(-(len(tar) + 1024) // 10240) * 10240 - len(tar))
    return Pack(ManifestFile("top/out.tar", len(tar), hashlib.sha256(tar).hexdigest()), members), tar


def fetched(home: Path, pack: Pack, tar: bytes, **force: bool) -> list[str]:
    """How that object came home."""
    said, store = list[str](), MemoryStore()
    store.objects[pack.file.name] = tar
    file = replace(pack.file, bytes=len(tar), sha256=hashlib.sha256(tar).hexdigest())  # the hash is the machine's word
    pack = replace(pack, file=file)
    fetch_all(
        store, [file], Home(home, home.parent / "runs", **force), ManualClock(),
        said=lambda _file, how: said.append(how), unpacked=unpacked({file.name: pack}),
    )  # fmt: skip
    return said


def below(home: Path) -> dict[str, bytes]:
    return {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if p.is_file()}


FILES = {"top/out/a": b"one", "top/out/b/run.sh": b"#!/bin/sh\n", "top/out/c": b"x" * 600}


def test_files_take_their_places(tmp_path: Path):
    """Each with its bytes, the one that may be run as that; a second time nothing is fetched; no tar is left."""
    pack, tar = packed(FILES, executable="top/out/b/run.sh")
    assert fetched(tmp_path / "home", pack, tar) == ["fetched"]
    assert below(tmp_path / "home") == FILES
    assert [os.access(tmp_path / "home" / name, os.X_OK) for name in FILES] == [False, True, False]
    assert fetched(tmp_path / "home", pack, tar) == ["already there"]
    (tmp_path / "home/top/out/c").unlink()
    assert fetched(tmp_path / "home", pack, tar) == ["fetched"]
    assert below(tmp_path / "home") == FILES


def another(**facts: Any) -> bytes:
    """The header of a member that is something else."""
    info = tarfile.TarInfo("out/a")
    info.size, info.mtime = 3, 315532800
    for key, value in facts.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    "top",
    [
        another(name="../a"),
        another(name="/etc/a"),
        another(name="out/b"),
        another(type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        another(type=tarfile.LNKTYPE, linkname="../../a"),
        another(type=tarfile.CHRTYPE),
        another(type=tarfile.DIRTYPE),
        another(size=2),
        another(mode=0o4755),
        another(uname="root"),
        bytes(512),
    ],
)
def test_a_member_that_was_not_listed_is_refused(tmp_path: Path, top: bytes):
    """Ways out, links, devices, folders, other sizes and rights: nothing at all is written."""
    pack, tar = packed(FILES)
    with pytest.raises(StepFailed, match=r"top/out.tar is refused: it has something else where top/out/a was listed"):
        fetched(tmp_path / "home", pack, top + tar[512:])
    assert not [name for name in below(tmp_path / "home") if not name.endswith(".partial")]


def test_more_than_was_listed_is_refused(tmp_path: Path):
    """A tar with another member behind those that were listed has another size."""
    pack, tar = packed(FILES)
    with pytest.raises(StepFailed, match="it has not the 10,240 bytes"):
        fetched(tmp_path / "home", pack, tar + tar)


def test_bytes_that_were_not_listed_take_no_place(tmp_path: Path):
    """A member with another sha256 than the manifest's is named; it is not there, and neither is half of it."""
    pack, tar = packed(FILES)
    with pytest.raises(StepFailed, match="top/out/c has another sha256"):
        fetched(tmp_path / "home", pack, tar.replace(b"x" * 600, b"y" * 600))
    assert not list((tmp_path / "home/top/out").glob("c*"))


def test_nothing_is_written_through_a_link(tmp_path: Path):
    """A link in place of a folder or of a file at home leads nowhere; a file of the user's stays."""
    pack, tar = packed(FILES)
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "top").mkdir(parents=True)
    elsewhere.mkdir()
    (home / "top/out").symlink_to(elsewhere)
    with pytest.raises(StepFailed, match="reached by a link"):
        fetched(home, pack, tar, force=True)
    (home / "top/out").unlink()
    (home / "top/out").mkdir()
    (home / "top/out/a").symlink_to(elsewhere / "a")
    with pytest.raises(StepFailed, match="is not what gpuplan fetched"):
        fetched(home, pack, tar, force=True)
    (home / "top/out/a").unlink()
    (home / "top/out/a").write_text("mine")
    with pytest.raises(StepFailed, match="is not what gpuplan fetched"):
        fetched(home, pack, tar)
    assert (home / "top/out/a").read_text() == "mine"
    assert list(elsewhere.iterdir()) == []


def test_a_manifest_says_what_is_in_a_tar():
    """Its text is read back; one without tars says nothing of them."""
    pack, _ = packed(FILES)
    text = manifest_text([pack.file], Sources({}, {}, {}), {pack.file.name: pack})
    assert manifest_packs(text) == {pack.file.name: pack}
    assert [file.name for file in artifacts.manifest_loose(text)] == list(FILES)
    assert "packs" not in manifest_text([pack.file], Sources({}, {}, {}))


# -- what the machine lists ----------------------------------------------------------------------------------------


def listed(tmp_path: Path, names: list[str], spoil: Callable[[Any], Any] = lambda found: found) -> Pack | None:
    """The pack of a real agent's folder `out`."""
    bench = stepbench.Bench(tmp_path)
    for name in names:
        path = bench.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    real = bench.agent
    agent = SimpleNamespace(pack=lambda folder, globs: spoil(real.pack(folder, globs)))
    return artifacts.pack(cast("Any", agent), ("out/**", "**/.keep"), "out")


def test_the_globs_say_what_is_packed(tmp_path: Path):
    """Of the folder what is an artifact, hidden names only where a glob says them, nothing of its neighbours."""
    pack = listed(tmp_path, ["out/a", "out/b/.keep", "out/.secret", "out2/a", "a"])
    assert pack
    assert [member.name for member in pack.members] == ["out/a", "out/b/.keep"]


def test_an_empty_folder_is_no_pack(tmp_path: Path):
    """There is nothing to send."""
    assert listed(tmp_path, ["a"]) is None


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda found: replace(found, bytes=found.bytes + 512), "its files make"),
        (lambda found: replace(found, members=found.members * 2), "twice"),
        (lambda found: replace(found, members=(replace(found.members[0], path="out/.git/x"),)), "git's own"),
    ],
)
def test_what_a_machine_lists_is_held_to_the_layout(tmp_path: Path, spoil: Callable[[Any], Any], why: str):
    """A tar of another size than its files make, a file twice, a name that may not be: refused before it is sent."""
    with pytest.raises(StepFailed, match=why):
        listed(tmp_path, ["out/a"], spoil)


def test_a_tar_may_not_take_an_artifacts_name():
    """An artifact that is called as the tar, by case too, is refused by name."""
    pack, _ = packed(FILES)
    with pytest.raises(StepFailed, match=r"top/OUT\.tar is called as the tar"):
        artifacts.joined([ManifestFile("top/OUT.tar", 1, "x")], [pack])


@pytest.mark.parametrize(
    ("others", "early"),
    [((), ["out.tar"]), (({"creates": ("out/more/*",)},), []), (({"creates": ("log",)},), ["out.tar"])],
)
def test_a_folder_is_sent_early_once_nothing_more_comes_into_it(
    tmp_path: Path, others: tuple[dict[str, Any], ...], early: list[str]
):
    """With its step where that alone fills it; where others do too, at the end."""
    steps = [Step(name="make", run="true", creates=("out/**",))]
    steps += [Step(name=f"other{n}", run="true", **facts) for n, facts in enumerate(others)]
    bench = stepbench.Bench(tmp_path, *steps, artifacts=("out/**",), pack={"out": "tar"})
    (bench.workspace / "out").mkdir(parents=True)
    (bench.workspace / "out/a").write_text("a")
    context = bench.context
    work = PhaseWork(context, cast("Any", stepbench.There(context)), cast("Any", None))
    ended = {f"only/{step.name}": StepState.DONE for step in steps}
    board = SimpleNamespace(wait_for=lambda asks: asks(ended))
    assert [file.name for file in work.made("only", "only/make", cast("Any", board))] == early


def test_what_a_failed_step_made_is_not_saved_by_its_tar(tmp_path: Path):
    """A deliverable that names the tar asks for the steps that fill the folder."""
    bench = stepbench.Bench(
        tmp_path, Step(name="bad", run="false", creates=("out/*",)), artifacts=("out/**",), pack={"out": "tar"}
    )
    bench.run("bad")
    judge = Deliverables(bench.context, bench.context.phase("only").phase, bench.agent, str(bench.workspace))
    with pytest.raises(StepFailed, match=r"only/bad, which makes out/\*\*, is failed"):
        judge.made("*.tar")
    judge.made("other.tar")


@pytest.mark.parametrize(
    ("name", "size"), [("a", 0), ("ü", 3), ("n" * 100, 3), ("n" * 101, 3), ("n" * 980, 3), ("a", LARGEST + 1)]
)
def test_a_header_is_read_by_whoever_reads_tars(name: str, size: int):
    """Names of any length and alphabet and sizes beyond the plain field, as Python's own reader has them."""
    with tarfile.open(fileobj=io.BytesIO(header(name, size, executable=True)), errorlevel=2) as tar:
        member = tar.next()
    assert (member.name, member.size, member.mode, member.mtime) == (name, size, 0o755, MTIME)


def test_what_fits_the_plain_header_has_no_other():
    """One block up to a hundred bytes of name and the largest size that the field can say."""
    assert len(header("n" * 100, LARGEST, executable=False)) == UNIT
    assert len(header("n" * 100, LARGEST + 1, executable=False)) == 3 * UNIT
    assert len(header("n" * 101, LARGEST, executable=False)) == 3 * UNIT
