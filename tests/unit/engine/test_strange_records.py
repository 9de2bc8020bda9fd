"""Done-records: what they say of files and of who wrote them, and what a ledger does that does not know one."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine import agreement, records
from orchestrator.engine.machines import Machines
from orchestrator.engine.phase import PhaseWork
from orchestrator.engine.volumes import Volumes
from orchestrator.ledger.rows import VolumeRow
from orchestrator.words.errors import StepFailed
from orchestrator.words.lifecycle import StepState, VolumeState
from orchestrator.words.model import Step, VolumeNeed
from tests.unit.engine.stepbench import MACHINE, PHASE, RUN, Bench, There

NEED = VolumeNeed(name="v", size_gb=10)
MAKE = Step(name="make", run='printf data >out; sha256sum out >>"$GPUPLAN_CHECKSUMS"', creates=("out",))
ID = f"{PHASE}/make"


def _bench(folder: Path) -> Bench:
    bench = Bench(folder, MAKE, volume=NEED)
    row = VolumeRow(
        name="vol", run=RUN, label=bench.context.spec.label(NEED), provider="none", state=VolumeState.CREATED
    )
    bench.ledger.volumes.put(row)
    return bench


def _record(bench: Bench) -> dict[str, Any]:
    return json.loads((bench.workspace / ".gpuplan" / "done" / f"{PHASE}.make.json").read_text())


def _agree(bench: Bench) -> None:
    bench.context.ledger.steps.change({"run": RUN}, state=StepState.PENDING)
    assert agreement.agree(bench.context, There(bench.context), PHASE, []) == []


def test_a_record_says_who_wrote_it_and_what(tmp_path: Path):
    """Run and machine, and of each file the sha256 that its step published, and a checksum of pieces."""
    bench = _bench(tmp_path)
    assert bench.run("make").state == StepState.DONE
    found = _record(bench)
    assert (found["run"], found["machine"]) == (RUN, MACHINE)
    (file,) = found["files"]
    assert file["sha256"] == hashlib.sha256(b"data").hexdigest()
    assert len(file["samples"]) == 64


def test_a_file_of_the_same_size_is_not_the_same(tmp_path: Path):
    """What was replaced by something as long is made again."""
    bench = _bench(tmp_path)
    assert bench.run("make").state == StepState.DONE
    assert bench.run("make", 2).state == StepState.UP_TO_DATE
    (bench.workspace / "out").write_text("DATA")
    assert bench.run("make", 3).state == StepState.DONE
    assert (bench.workspace / "out").read_text() == "data"


def test_a_record_of_before_holds_by_its_sizes(tmp_path: Path):
    """A record without checksums, as version 0.1.0 wrote it, still counts."""
    old = {"path": "out", "bytes": 4}
    parsed = records.parse(json.dumps({"step": ID, "key": "k", "run": "r", "at": 1, "files": [old]}))
    assert parsed
    assert parsed.files[0].is_still(records.CreatedFile("out", 4, samples="x"))
    assert not parsed.files[0].is_still(records.CreatedFile("out", 5))


def _stranger(bench: Bench, tmp_path: Path) -> None:
    """Somebody else's work on the volume: the ledger has no copy of the record."""
    assert bench.run("make").state == StepState.DONE
    bench.ledger.records.remove(volume="vol", step=ID)


def test_a_record_of_nobody_we_know_is_not_believed(tmp_path: Path):
    """With nobody to ask, it is shown and the step runs again, as it was previewed."""
    bench = _bench(tmp_path)
    _stranger(bench, tmp_path)
    _agree(bench)
    assert any(f"says that {ID} is done, by run {RUN} on {MACHINE}, which this ledger" in text for text in bench.said())
    assert bench.run("make", 2).state == StepState.DONE
    assert any("unknown to this ledger: run again" in text for text in bench.said())


@pytest.mark.parametrize(("answer", "state"), [(True, StepState.UP_TO_DATE), (False, StepState.DONE)])
def test_somebody_is_asked_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, answer: bool, state: StepState
):  # fmt: skip
    """What somebody takes for done is done, and known from then on."""
    bench = _bench(tmp_path)
    _stranger(bench, tmp_path)
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return answer

    monkeypatch.setattr(bench.context.control, "ask", ask)
    _agree(bench)
    assert len(asked) == 1
    assert asked[0].endswith("Take it for done?")
    assert bench.run("make", 2).state == state
    _agree(bench)
    assert len(asked) == 1


def test_a_strangers_name_is_shown_harmless():
    """Who wrote a record is the volume's word: no control character of it reaches anybody."""
    record = records.DoneRecord(step=ID, key="k", run="r\x1b[2J\nok", machine="m" * 999, at=1.0, files=())
    said = records.whose(records.parse(json.dumps(asdict(record))) or record)
    assert said.isprintable()
    assert len(said) < 150


def test_an_artifact_that_is_not_what_its_step_wrote_is_not_sent(tmp_path: Path):
    """The manifest's sha256 is compared with the one that the step published while it wrote the file."""
    bench = Bench(tmp_path, MAKE, artifacts=("out",))
    assert bench.run("make").state == StepState.DONE
    context = bench.context
    work = PhaseWork(context, Machines(context), Volumes(context))
    assert [file.name for file in work.manifest(PHASE)] == ["out"]
    (bench.workspace / "out").write_text("DATA")
    with pytest.raises(StepFailed, match="out: not what its step wrote"):
        work.manifest(PHASE)


@pytest.mark.parametrize("state", ["branch", "detached", "packed"])
def test_a_clone_is_recorded_with_its_commit(tmp_path: Path, state: str):
    """Record and events name the commit that was cloned, all of it, wherever git keeps it."""
    then = {"branch": "true", "detached": "git checkout -q --detach", "packed": "git pack-refs --all"}[state]
    make = "git init -q up; cd up; git -c user.name=n -c user.email=e commit -q --allow-empty -m x; " + then
    bench = Bench(tmp_path, Step(name="make", run=make, creates=("up/.git/HEAD",)), volume=NEED)
    assert bench.run("make").state == StepState.DONE
    words = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(words, cwd=bench.workspace / "up", capture_output=True, check=True).stdout.decode().strip()
    assert _record(bench)["clones"] == {"up": commit}
    assert f"{ID}: up is a clone at commit {commit}" in bench.said()
