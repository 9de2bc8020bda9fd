"""The kinds of deliverables, each with what holds and what does not."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from orchestrator.engine import records
from orchestrator.engine.context import Agents
from orchestrator.engine.deliverables import KINDS, Deliverables, _wanted_nodes, at_home
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.step_log import StepLog
from orchestrator.ledger.rows import ArtifactRow, ChargeRow, FigureRow
from orchestrator.words.errors import ConnectionLost, MachineLost, StepFailed
from orchestrator.words.lifecycle import MachineState, StepState
from orchestrator.words.model import Deliverable, HubCheckout, MachineNeed, Phase, Ready, Step
from tests.unit.engine.stepbench import MACHINE, PHASE, RUN, Bench

FILES = [ManifestFile("out/a.txt", 4, "x"), ManifestFile("out/b.txt", 4, "y"), ManifestFile("half.txt", 4, "z")]
WORKER = "gpuplan-o-1128-abcd-only-2-t1"
INDEX = '{"weight_map": {"w1": "one.safetensors", "w2": "two.safetensors"}}'
CASES: list[tuple[dict[str, Any], bool | None, str]] = [
    ({"machine": "reachable"}, True, "1 machine answering"),
    ({"file": "out/*.txt", "min_bytes": 4}, True, "out/a.txt (4 bytes), out/b.txt (4 bytes)"),
    ({"file": "out/*.txt", "min_bytes": 5}, False, "out/a.txt has 4 bytes, at least 5 are wanted"),
    ({"file": "none"}, False, "no file matches none"),
    ({"file": "stale.txt"}, False, "only/bad, which makes stale.txt, is failed"),
    ({"file": "before.txt"}, True, "before.txt (4 bytes)"),
    ({"file": "never.txt"}, False, "before/never, which makes never.txt, has no done-record that holds"),
    ({"same": ("out/a.txt", "copy.txt")}, True, "for all 2"),
    ({"same": ("out/a.txt", "out/b.txt")}, False, "their sha256 differ"),
    ({"same": ("out/a.txt", "none")}, False, "none is not there"),
    ({"same": ("out/a.txt", "stale.txt")}, False, "only/bad, which makes stale.txt, is failed"),
    ({"checkpoint": "model"}, True, "2 shards, 8 bytes"),
    ({"checkpoint": "damaged"}, False, "damaged: it names no shard"),
    ({"checkpoint": "half"}, False, "1 of 2 shards are missing, first two.safetensors"),
    ({"checkpoint": "none"}, False, "none has no model.safetensors.index.json"),
    ({"checkpoint": "fetched"}, False, "only/idle, which makes fetched/model.safetensors.index.json, is pending"),
    ({"step": "talk"}, True, "only/talk done"),
    ({"step": "talk", "stdout": "hello"}, True, "say hello again"),
    ({"step": "talk", "stdout": "bye"}, False, "holds 'bye'; its last: 'the end'"),
    ({"step": "talk", "stdout": "hel+o"}, False, "holds 'hel+o'"),
    ({"step": "talk", "matches": "^say hel+o"}, True, "say hello again"),
    ({"step": "talk", "matches": "^hello"}, False, "matches '^hello'"),
    ({"step": "idle"}, False, "only/idle is pending"),
    ({"step": "bad", "stdout": "hello"}, False, "only/bad is failed"),
    ({"step": "serving"}, False, "only/serving is ready"),
    ({"step": "none"}, False, "only/none did not run in this phase"),
    ({"step": "talk", "metric": "speed", "min": 2}, True, "speed = 2.5 on CPU (x)"),
    ({"step": "talk", "metric": "speed", "min": 3}, False, "at least 3 is wanted"),
    ({"step": "talk", "metric": "speed", "max": 2}, False, "at most 2 is wanted"),
    ({"step": "talk", "metric": "size"}, False, "only/talk measured no size"),
    (
        {"step": "talk", "metric": "speed", "min": 3, "device": "gpu"},
        None,
        "speed was measured on CPU (x): a CPU stands",
    ),
    ({"step": "bad", "metric": "speed", "min": 1}, False, "only/bad is failed"),
    ({"step": "bad", "metric": "speed", "min": 1, "device": "gpu"}, False, "only/bad is failed"),
    ({"uploaded": "out/a.txt"}, True, "1 file, 4 bytes verified in s3://b"),
    ({"uploaded": "out/*"}, False, "out/b.txt is not verified in s3://b"),
    ({"uploaded": "none"}, False, "no artifact matches none"),
    ({"uploaded": "stale.txt"}, False, "only/bad, which makes stale.txt, is failed"),
    ({"pulled": "out/a.txt"}, True, "1 file in"),
    ({"pulled": "out/*"}, False, "out/b.txt is not whole"),
    ({"pulled": "half.txt"}, False, "half.txt is not whole"),
    ({"pulled": "stale.txt"}, False, "only/bad, which makes stale.txt, is failed"),
]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Deliverables:
    folder = tmp_path_factory.mktemp("phase")
    ours = (
        Step(name="talk", run="true"), Step(name="bad", run="true", creates=("stale.txt",)),
        Step(name="idle", run="true", hub=HubCheckout(repo="o/n", dir="fetched")),
        Step(name="serving", run="true", ready=Ready(port=1)),
    )  # fmt: skip
    bench = Bench(folder, *ours)
    before = tuple(Step(name=name, run="true", creates=(f"{name}.txt",)) for name in ("before", "never"))
    plan = bench.context.spec.plan
    plan = plan.model_copy(update={"phases": (*plan.phases, Phase(name="before", steps=before))})
    bench.context.spec = bench.context.spec.model_copy(update={"plan": plan})
    texts = {"out/a.txt": "same", "copy.txt": "same", "out/b.txt": "else", "stale.txt": "same", "before.txt": "same"}
    for name, text in texts.items():
        _put(bench.workspace / name, text)
    for model, shards in {"model": ("one", "two"), "half": ("one",)}.items():
        _put(bench.workspace / model / "model.safetensors.index.json", INDEX)
        for shard in shards:
            _put(bench.workspace / model / f"{shard}.safetensors", "1234")
    _put(bench.workspace / "damaged" / "model.safetensors.index.json", '{"weight_map": 7}')
    record = records.DoneRecord(
        step="before/before", key=bench.context.keys["before/before"], run="r", at=1.0,
        files=(records.CreatedFile("before.txt", 4),),
    )  # fmt: skip
    bench.agent.write(".gpuplan/done/before.before.json", json.dumps(asdict(record)))
    for name, state in {"talk": StepState.DONE, "bad": StepState.FAILED, "serving": StepState.READY}.items():
        key = {"run": RUN, "phase": PHASE, "id": f"only/{name}"}
        bench.ledger.steps.move(key, StepState.RUNNING)
        bench.ledger.steps.move(key, state)
        place: dict[str, Any] = {"measured_on": "CPU (x)", "device": "cpu"}
        bench.ledger.figures.put(FigureRow(run=RUN, step=f"only/{name}", node=0, name="speed", value=2.5, **place))
    bench.ledger.artifacts.put(ArtifactRow(run=RUN, store="s3://b", name="out/a.txt", state="VERIFIED"))
    bench.ledger.artifacts.put(ArtifactRow(run=RUN, store="s3://b", name="out/b.txt", state="UPLOADING"))
    bench.context.stores.append(SimpleNamespace(url="s3://b"))
    log = StepLog(bench.context, PHASE, "only/talk")
    log.restore("bye\nsay hello\n", "say hello\nsay hello again\nthe end\n")
    found = Deliverables(bench.context, bench.context.phase(PHASE).phase, bench.agent, str(bench.workspace))
    found.files, found.home = FILES, folder / "pulled"
    _put(found.home / "out" / "a.txt", "same")
    _put(found.home / "half.txt", "sa")
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
        assert held >= ({True} if kind == "machine" else {True, False}), kind


def test_a_machine_that_lists_fewer_gpus_than_were_rented_is_not_what_was_asked_for(tmp_path: Path):
    """`machine: reachable` can fail: the driver lists none of the two cards."""
    bench = Bench(tmp_path, deliverables=(Deliverable(name="it", machine="reachable"),))
    bench.ledger.machines.change({"name": MACHINE}, gpus=2)
    (answer,) = _judge(bench).judge([], tmp_path)
    assert (answer.ok, answer.detail) == (False, f"{MACHINE} lists 0 of its 2 GPUs")


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        (None, "1 of 2 machines are there"),
        ({"state": MachineState.DESTROYED, "reachable_at": None}, "1 of 2 machines are there"),
        ({}, f"{WORKER} does not answer: gone"),
    ],
    ids=["never rented", "never reached", "silent"],
)
def test_a_phase_of_two_machines_needs_both(tmp_path: Path, worker: dict[str, Any] | None, said: str):
    """A worker that was never there, or that does not answer, is a no: the root does not stand for it."""

    def lost() -> NoReturn:
        raise ConnectionLost("gone")

    wanted = Deliverable(name="it", machine="reachable")
    bench = Bench(tmp_path, machine=MachineNeed(nodes=2), deliverables=(wanted,))
    if worker is not None:
        root = bench.ledger.machines.get(name=MACHINE)
        changes: dict[str, Any] = {"name": WORKER, "node": 1} | worker
        bench.ledger.machines.put(replace(root, **changes))
        bench.ledger.charges.put(ChargeRow(machine=WORKER, run=RUN, phase=PHASE, since=1.0))
    agents = {MACHINE: bench.agent, WORKER: SimpleNamespace(hello=lost)}
    bench.context.agents = cast("Agents", agents.__getitem__)
    (answer,) = _judge(bench).judge([], tmp_path)
    assert (answer.ok, answer.detail) == (False, said)


def test_what_comes_home_later_is_answered_then(tmp_path: Path):
    """Until the files are fetched nobody answers; then each must be whole."""
    bench = Bench(tmp_path, deliverables=(Deliverable(name="it", pulled="half.txt"),))
    phase, files = bench.context.phase(PHASE).phase, [FILES[2]]
    assert _judge(bench).judge(files, None) == []
    _put(tmp_path / "half.txt", "sa")
    with pytest.raises(StepFailed, match=r"half\.txt is not whole"):
        at_home(bench.context, phase, files, tmp_path)
    assert bench.ledger.deliverables.all(run=RUN) == []
    _put(tmp_path / "half.txt", "same")
    at_home(bench.context, phase, files, tmp_path)
    assert bench.ledger.deliverables.get(run=RUN, phase=PHASE, name="it").ok


@pytest.mark.parametrize("error", [ConnectionLost, MachineLost])
def test_a_lost_connection_is_no_answer(tmp_path: Path, error: type[Exception]):
    """While the root machine is not reached nothing is judged: the question is asked again."""

    def lost(*_: Any, **__: Any) -> NoReturn:
        raise error("gone")

    bench = Bench(tmp_path, deliverables=(Deliverable(name="it", file="x"),))
    bench.agent.files = lost  # type: ignore[method-assign]  # the line is cut
    with pytest.raises(error):
        _judge(bench).judge([], tmp_path)


def _judge(bench: Bench) -> Deliverables:
    return Deliverables(bench.context, bench.context.phase(PHASE).phase, bench.agent, str(bench.workspace))


@pytest.mark.parametrize(
    ("first", "second", "staged", "nodes"),
    [
        (StepState.DONE, StepState.DONE, True, 3),
        (StepState.UP_TO_DATE, StepState.DONE, True, 1),
        (StepState.FAILED, StepState.UP_TO_DATE, True, 2),
        (StepState.UP_TO_DATE, StepState.UP_TO_DATE, True, 0),
        (StepState.UP_TO_DATE, StepState.UP_TO_DATE, False, 1),
    ],
)
def test_a_machine_that_nobody_needed_need_not_have_been_there(
    tmp_path: Path, first: StepState, second: StepState, nodes: int, *, staged: bool
):
    """Of machines that come for their steps alone: none for what was done before. Of others all that the phase says."""
    bench = Bench(tmp_path, Step(name="first", run="true"), Step(name="second", run="true"))
    for name, state in (("first", first), ("second", second)):
        bench.ledger.steps.change({"run": RUN, "phase": PHASE, "id": f"{PHASE}/{name}"}, state=state)
    crews = (
        SimpleNamespace(nodes=(0,), steps=()),
        SimpleNamespace(nodes=(0, 1), steps=(SimpleNamespace(id=f"{PHASE}/first"),)),
        SimpleNamespace(nodes=(2,), steps=(SimpleNamespace(id=f"{PHASE}/second"),)),
    )
    context = SimpleNamespace(
        run=RUN, ledger=bench.ledger, crews=lambda _name: crews, spec=SimpleNamespace(staged=(PHASE,) if staged else ())
    )
    judge = SimpleNamespace(context=context, phase=bench.context.phase(PHASE).phase)
    assert _wanted_nodes(judge) == nodes  # type: ignore[arg-type]  # as much of one as it asks for
