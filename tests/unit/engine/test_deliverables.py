"""The kinds of deliverables, each with what holds and what does not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engine.deliverables import KINDS, Deliverables
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.step_log import StepLog
from orchestrator.ledger.rows import ArtifactRow, MetricRow
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Deliverable, Step
from tests.unit.engine.stepbench import PHASE, RUN, Bench

FILES = [ManifestFile("out/a.txt", 4, "x"), ManifestFile("out/b.txt", 4, "y")]
INDEX = '{"weight_map": {"w1": "one.safetensors", "w2": "two.safetensors"}}'
CASES: list[tuple[dict[str, Any], bool, str]] = [
    ({"machine": "reachable"}, True, "agent answers"),
    ({"file": "out/*.txt", "min_bytes": 4}, True, "out/a.txt (4 bytes), out/b.txt (4 bytes)"),
    ({"file": "out/*.txt", "min_bytes": 5}, False, "out/a.txt has 4 bytes, at least 5 are wanted"),
    ({"file": "none"}, False, "no file matches none"),
    ({"same": ("out/a.txt", "copy.txt")}, True, "for all 2"),
    ({"same": ("out/a.txt", "out/b.txt")}, False, "their sha256 differ"),
    ({"same": ("out/a.txt", "none")}, False, "none is not there"),
    ({"checkpoint": "model"}, True, "2 shards, 8 bytes"),
    ({"checkpoint": "damaged"}, False, "damaged: it names no shard"),
    ({"checkpoint": "half"}, False, "1 of 2 shards are missing, first two.safetensors"),
    ({"checkpoint": "none"}, False, "none has no model.safetensors.index.json"),
    ({"step": "talk"}, True, "only/talk done"),
    ({"step": "talk", "stdout": "hello"}, True, "say hello"),
    ({"step": "talk", "stdout": "bye"}, False, "its last line: 'say hello'"),
    ({"step": "idle"}, False, "only/idle is pending"),
    ({"step": "none"}, False, "only/none did not run in this phase"),
    ({"step": "talk", "metric": "speed", "min": 2}, True, "speed = 2.5 on this computer"),
    ({"step": "talk", "metric": "speed", "min": 3}, False, "at least 3 is wanted"),
    ({"step": "talk", "metric": "speed", "max": 2}, False, "at most 2 is wanted"),
    ({"step": "talk", "metric": "size"}, False, "only/talk measured no size"),
    ({"uploaded": "out/a.txt"}, True, "1 file, 4 bytes verified in s3://b"),
    ({"uploaded": "out/*"}, False, "out/b.txt is not verified in s3://b"),
    ({"uploaded": "none"}, False, "no artifact matches none"),
    ({"pulled": "out/a.txt"}, True, "1 file in"),
    ({"pulled": "out/*"}, False, "out/b.txt is not whole"),
]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Deliverables:
    folder = tmp_path_factory.mktemp("phase")
    bench = Bench(folder, Step(name="talk", run="true"), Step(name="idle", run="true"))
    for name, text in {"out/a.txt": "same", "copy.txt": "same", "out/b.txt": "else"}.items():
        _put(bench.workspace / name, text)
    for model, shards in {"model": ("one", "two"), "half": ("one",)}.items():
        _put(bench.workspace / model / "model.safetensors.index.json", INDEX)
        for shard in shards:
            _put(bench.workspace / model / f"{shard}.safetensors", "1234")
    _put(bench.workspace / "damaged" / "model.safetensors.index.json", '{"weight_map": 7}')
    key = {"run": RUN, "phase": PHASE, "id": "only/talk"}
    bench.ledger.steps.move(key, StepState.RUNNING)
    bench.ledger.steps.move(key, StepState.DONE)
    bench.ledger.metrics.put(MetricRow(run=RUN, step="only/talk", name="speed", value=2.5, measured_on="this computer"))
    bench.ledger.artifacts.put(ArtifactRow(run=RUN, store="s3://b", name="out/a.txt", state="VERIFIED"))
    bench.ledger.artifacts.put(ArtifactRow(run=RUN, store="s3://b", name="out/b.txt", state="UPLOADING"))
    bench.context.stores.append(SimpleNamespace(url="s3://b"))
    log = StepLog(bench.context, PHASE, "only/talk")
    log.restart("first")
    log.add("bye\n", 4)
    log.restart("second")
    log.add("say hello\n", 10)
    found = Deliverables(bench.context, bench.context.phase(PHASE).phase, bench.agent, str(bench.workspace))
    found.files, found.home = FILES, folder / "pulled"
    _put(found.home / "out" / "a.txt", "same")
    return found


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(("asked", "ok", "said"), CASES, ids=lambda value: str(value)[:40])
def test_each_kind_of_deliverable(judge: Deliverables, asked: dict[str, Any], ok: Any, said: str):
    """A question holds, or does not, with the figure or the name that decides it."""
    wanted = Deliverable(name="it", **asked)
    phase = judge.phase.model_copy(update={"deliverables": (wanted,)})
    again = Deliverables(judge.context, phase, judge.agent, judge.workspace)
    (answer,) = again.judge(FILES, judge.home)
    assert (answer.ok, said in answer.detail) == (ok, True), answer
    assert judge.context.ledger.deliverables.get(run=RUN, phase=PHASE, name="it").ok == ok


def test_every_kind_has_a_case():
    """No kind of question is without one that holds and one that does not, but for the machine's."""
    for kind in KINDS:
        held = {ok for asked, ok, _ in CASES if next(k for k in KINDS if k in asked) == kind}
        assert held == ({True} if kind == "machine" else {True, False}), kind
