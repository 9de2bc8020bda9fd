"""A phase's inputs: fetched once, again when they have changed, and what is made of them then too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.engine.inputs import FOLDER, Fetching, need_gb
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import StepRow
from orchestrator.testing.machine import Script
from orchestrator.transport.replies import Fetched
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.model import Input
from orchestrator.words.source import SourceFile, Wanted
from tests.unit.cli.desk import Desk
from tests.unit.engine.stepbench import PHASE, Bench

URL = "s3://mine/train"
PLAN = """
train:
  machine: {gpu: [RTX-4090]}
  volume: {name: data, size_gb: 10}
  inputs: [{from: "s3://mine/train", to: data}]
  steps:
    - {name: train, run: train, creates: [model.bin], gpu: false}
    - {name: other, run: other, needs: [train], creates: [other.bin], gpu: false}
"""
SCRIPTS = {
    "train": Script(creates={"model.bin": "m"}),
    "other": Script(creates={"other.bin": "o"}),
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, PLAN, scripts=SCRIPTS, sources={URL: {"a.csv": b"aaa", "deep/b.csv": b"bbbb"}})


def steps(ledger: Ledger, run: str) -> dict[str, str]:
    return {row.id.partition("/")[2]: str(row.state) for row in ledger.steps.all(run=run)}


def again(desk: Desk) -> dict[str, str]:
    """A second look at all of it, as `run --check` takes one; where it finds work, the next run does it."""
    if desk.run("train", check=True).outcome == Outcome.OVER_BUDGET:
        assert desk.run("train").outcome == Outcome.SUCCEEDED
    return steps(desk.bench.ledger(), desk.bench.spec.run)


def test_inputs_come_before_the_first_step(desk: Desk):
    """With all folders; they are a step that is recorded, told of as a transfer, and not fetched again."""
    assert desk.run("train").outcome == Outcome.SUCCEEDED
    bench, source = desk.bench, desk.bench.sources[URL]
    ledger, run = bench.ledger(), desk.bench.spec.run
    assert set(steps(ledger, run).values()) == {"DONE"}
    (disk,) = bench._disks.values()
    assert (disk.files["/workspace/data/a.csv"], disk.files["/workspace/data/deep/b.csv"]) == (b"aaa", b"bbbb")
    assert source.gets == ["a.csv", "deep/b.csv"]
    (moved,) = ledger.transfers.all(run=run, kind="input")
    assert (moved.place, moved.files, moved.files_done, moved.bytes, moved.bytes_done, moved.moved) == (
        URL,
        2,
        2,
        7,
        7,
        7,
    )
    began = {row.id: row.started_at or 0 for row in ledger.steps.all(run=run)}
    ended: StepRow = ledger.steps.get(run=run, phase="train", id="train/inputs")
    assert (ended.ended_at or 0) <= began["train/train"]
    assert again(desk) == {"inputs": "UP_TO_DATE", "train": "UP_TO_DATE", "other": "UP_TO_DATE"}
    assert source.gets == ["a.csv", "deep/b.csv"]


def test_a_changed_object_is_fetched_again_and_so_is_what_was_made_of_it(desk: Desk):
    """That one alone, and it is said; of the same size, too."""
    desk.run("train")
    source = desk.bench.sources[URL]
    source.objects["a.csv"] = b"AAA"
    assert desk.run("train", check=True).outcome == Outcome.OVER_BUDGET, "nobody is there who agrees to more work"
    assert source.gets == ["a.csv", "deep/b.csv"]
    assert again(desk) == {"inputs": "DONE", "train": "DONE", "other": "DONE"}
    assert source.gets == ["a.csv", "deep/b.csv", "a.csv"]
    (disk,) = desk.bench._disks.values()
    assert disk.files["/workspace/data/a.csv"] == b"AAA"
    said = [event.text for event in desk.bench.ledger().events.all(run=desk.bench.spec.run)]
    assert any("something else than what is on the volume" in text for text in said)


def test_a_store_that_cannot_be_asked_changes_nothing(desk: Desk):
    """What came from it holds, and it is said that nobody knows."""
    desk.run("train")
    del desk.bench.sources[URL].objects["a.csv"], desk.bench.sources[URL].objects["deep/b.csv"]
    assert again(desk)["train"] == "UP_TO_DATE"
    said = [event.text for event in desk.bench.ledger().events.all(run=desk.bench.spec.run)]
    assert any("whether it has changed is not known: there is nothing at s3://mine/train" in text for text in said)


def test_a_store_that_is_unwell_is_asked_again(desk: Desk):
    """Signatures that had expired are made anew; what had come is not fetched twice."""
    source = desk.bench.sources[URL]
    source.refusals = [503, 403, 503]
    assert desk.run("train").outcome == Outcome.SUCCEEDED
    assert sorted(source.gets) == ["a.csv", "deep/b.csv"]


@pytest.mark.parametrize(
    ("objects", "words"),
    [({}, "there is nothing at s3://mine/train"), ({"../x": b"1"}, "is no path below data")],
)
def test_what_cannot_be_fetched_fails_its_phase(tmp_path: Path, objects: dict[str, bytes], words: str):
    """Nothing there, or a name that would leave its folder: the step fails and says so, nothing else runs."""
    desk = Desk(tmp_path, PLAN, scripts=SCRIPTS, sources={URL: objects})
    assert desk.run("train").outcome == Outcome.FAILED
    row = desk.bench.ledger().steps.get(run=desk.bench.spec.run, phase="train", id="train/inputs")
    assert words in row.detail
    assert not desk.bench.runs()["train"]


def test_what_is_on_the_volume_is_believed_by_the_store_s_tag_alone(desk: Desk):
    """A file of the right size whose tag was never noted is fetched."""
    desk.run("train")
    (disk,) = desk.bench._disks.values()
    (note,) = (path for path in disk.files if f"/{FOLDER}/" in path)
    disk.files[note] = b"[1, {"
    disk.files["/workspace/data/a.csv"] = b"xxx"
    disk.files.pop(next(path for path in disk.files if path.endswith("train.inputs.json")))
    assert again(desk)["inputs"] == "DONE"
    assert disk.files["/workspace/data/a.csv"] == b"aaa"


def fetching(tmp_path: Path, *lines: Fetched) -> tuple[Fetching, list[str], Any]:
    """Two files of 10^9 bytes each on their way, of which the machine says that; which of them came."""
    bench = Bench(tmp_path)
    files = [SourceFile(name, f"k/{name}", 10**9, name) for name in ("a.bin", "b.bin")]
    about = SimpleNamespace(bytes=10**9, crc32=None, md5=None, sha256=None)
    source = SimpleNamespace(listing=lambda: files, about=lambda _file: about, signed_get=lambda _file: "https://x")
    bench.context.source = lambda _one: source
    one = Input.model_validate({"from": "s3://b/k/", "to": "data"})
    step = SimpleNamespace(id="only/inputs", inputs=(one,))
    agent = SimpleNamespace(
        workspace="/w", files=lambda _root, _patterns: [], read=lambda _path: None, write=lambda _path, _text: None,
        get=lambda _wanted, hear: [hear(line) for line in lines],
    )  # fmt: skip
    assert need_gb(bench.context, cast("Any", agent), cast("Any", step)) == 2.0
    made = Fetching(bench.context, PHASE, cast("Any", step))
    for transfer in made._transfers.values():
        transfer.expect({"data/a.bin": 10**9, "data/b.bin": 10**9})
    return made, [a.path for a in made._fetch(cast("Any", agent), made._arrivals)], bench.context


def test_what_moves_is_what_each_file_has_more_than_before(tmp_path: Path):
    """Of two files at the same time; one that begins anew has not moved back."""
    said = [Fetched(0, 3), Fetched(1, 5), Fetched(0, 7), Fetched(1, 1), Fetched(1, 4), Fetched(0, 9, done=True)]
    made, came, context = fetching(tmp_path, *said)
    assert (made.moved, came) == (9 + 5 + 3, ["data/a.bin"])
    (row,) = context.ledger.transfers.all(kind="input")
    assert made.said == "fetched 1 files, 1,000,000,000 bytes; 1 files were there"
    assert row.files == 2


@pytest.mark.parametrize(("url", "crc32"), [("s3://b/k/", "c"), ("gs://b/k/", "")])
def test_what_a_store_says_of_a_file_is_asked_of_the_machine(tmp_path: Path, url: str, crc32: str):
    """Each checksum that it has; Google's CRC is another one than the machine computes."""
    made, _, context = fetching(tmp_path)
    (arrival, _) = made._arrivals
    about = SimpleNamespace(bytes=10**9, crc32="c", md5="m", sha256="s")
    context.source = lambda _one: SimpleNamespace(about=lambda _file: about, signed_get=lambda _file: "https://x")
    other = replace(arrival, one=arrival.one.model_copy(update={"source": url}))
    assert made._wanted(other) == Wanted("data/a.bin", 10**9, "a.bin", "https://x", crc32, "m", "s")  # type: ignore[arg-type]
    about.crc32 = about.md5 = about.sha256 = None
    assert made._wanted(other) == Wanted("data/a.bin", 10**9, "a.bin", "https://x", "", "", "")  # type: ignore[arg-type]
