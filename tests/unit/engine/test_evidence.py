"""What figures prove: the program's word beside what the agent and the other ranks saw."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.engine.deliverables import Deliverables
from orchestrator.ledger.rows import FigureRow
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Deliverable, MachineNeed, Ready, RunsOn, Step
from tests.unit.engine.stepbench import PHASE, RUN, Bench

CPU, A100, H100 = "cpu", "NVIDIA A100 80GB PCIe", "NVIDIA H100 80GB HBM3"
STEPS = (
    Step(name="root", run="true", needs=("near", "far", "broken", "task")),
    Step(name="near", run="true", ready=Ready(port=1)),
    Step(name="far", run="true", on=RunsOn.WORKERS, ready=Ready(port=1)),
    Step(name="broken", run="true", ready=Ready(port=1)),
    Step(name="task", run="true"),
)
SPEED = {"metric": "speed", "min": 10}
FULL = {"metric": "gpu_memory_percent", "max": 80}
Figures = list[tuple[str, int, str, float, str]]
BUSY = [("root", 0, "gpus_at_work", 1, A100)]
TWO = [("root", 0, "gpus_at_work", 2, A100)]
SERVED = [("near", 0, "rank", 1, CPU), ("near", 0, "tokens", 9, CPU), ("far", 1, "rank", 2, CPU)]
FAR: Figures = [("far", 1, "tokens", 9, CPU)]
LIED = [("broken", 0, "rank", 3, CPU), ("broken", 0, "tokens", 9, CPU)]
NO_SERVICE = [("task", 0, "rank", 3, CPU), ("task", 0, "tokens", 9, CPU)]
CASES: list[tuple[bool, Figures, dict[str, Any], bool | None, str]] = [
    # A figure and the device that it says; whether these machines show a GPU comes first.
    (True, [("root", 0, "speed", 12, A100), *BUSY], SPEED, True, "speed = 12 on there"),
    (True, [("root", 0, "speed", 12, A100)], SPEED, False, "of NVIDIA A100 80GB PCIe, but no GPU was seen at work"),
    (True, [("root", 0, "speed", 12, H100), *BUSY], SPEED, False, f"of {H100}, but only {A100} was seen at work"),
    (
        True, [*(("far", node, "speed", 12, A100) for node in (1, 2)), ("far", 1, "gpus_at_work", 1, A100)],
        SPEED | {"step": "far"}, False, "but no GPU was seen at work",
    ),
    (True, [("root", 0, "speed", 12, CPU)], SPEED, True, "speed = 12 on there"),
    (True, [("root", 0, "speed", 12, CPU), *BUSY], SPEED | {"device": "gpu"}, False, "measured on there, not on a GPU"),
    (True, [("root", 0, "speed", 12, "")], SPEED | {"device": "gpu"}, False, "not on a GPU"),
    (True, [("root", 0, "speed", 12, A100), *BUSY], SPEED | {"device": "gpu"}, True, "speed = 12"),
    (True, [("root", 0, "speed", 9, A100), *BUSY], SPEED | {"device": "gpu"}, False, "at least 10 is wanted"),
    (True, [("root", 0, "speed", 12, A100), *BUSY], SPEED | {"device": "cpu"}, False, "not of a CPU"),
    (False, [("root", 0, "speed", 12, CPU)], SPEED | {"device": "cpu"}, True, "speed = 12"),
    (False, [("root", 0, "speed", 12, CPU)], SPEED | {"device": "gpu"}, None, "measured on there: a CPU stands in"),
    (False, [("root", 0, "speed", 12, A100), *BUSY], SPEED | {"device": "gpu"}, False, "no GPU was seen at work"),
    (False, [], SPEED | {"device": "gpu"}, False, "only/root measured no speed"),
    # What the agent samples.
    (True, [("root", 0, "gpu_memory_percent", 70, A100)], FULL, True, "= 70"),
    (True, [("root", 0, "gpu_memory_percent", 70, "")], FULL, False, "no GPU was"),
    (False, [("root", 0, "gpu_memory_percent", 7, "")], FULL, None, "stands in"),
    # How many: as far as others bear it out.
    (True, [("root", 0, "gpus_used", 2, A100), *TWO], {"metric": "gpus_used", "min": 2}, True, "gpus_used = 2"),
    (True, [("root", 0, "gpus_used", 2, A100), *BUSY], {"metric": "gpus_used", "min": 2}, False, "of which 1 is borne"),
    (
        True, [("root", 0, "gpus_used", 2, A100), *BUSY, ("far", 1, "gpus_at_work", 1, A100)],
        {"metric": "gpus_used", "min": 2}, True, "gpus_used = 2",
    ),
    (
        True, [("root", 0, "gpus_used", 2, A100), *BUSY, ("near", 0, "gpus_at_work", 1, A100)],
        {"metric": "gpus_used", "min": 2}, False, "1 GPUs were seen at work",
    ),
    (False, [("root", 0, "ranks", 3, CPU), *SERVED, *FAR], {"metric": "ranks", "min": 3}, True, "ranks = 3"),
    (False, [("root", 0, "ranks", 3, CPU), *SERVED], {"metric": "ranks", "min": 3}, False, "of which 2 is borne out"),
    (
        False, [("root", 0, "ranks", 3, CPU), *SERVED, ("far", 1, "tokens", 0, CPU)],
        {"metric": "ranks", "min": 3}, False, "of which 2 is borne out",
    ),
    (
        False, [("root", 0, "ranks", 4, CPU), *SERVED, *FAR, *NO_SERVICE],
        {"metric": "ranks", "min": 4}, False, "of which 3 is borne out",
    ),
    (False, [("root", 0, "ranks", 3, CPU)], {"metric": "ranks", "min": 2}, False, "published 0 ranks at work"),
    (False, [("root", 0, "ranks", 4, CPU), *SERVED, *FAR, *LIED], {"metric": "ranks", "min": 4}, False, "of which 3"),
    (False, [("root", 0, "ranks", 1, CPU), *SERVED, *FAR], {"metric": "ranks", "min": 2}, False, "ranks = 1 on there:"),
    (False, [("root", 0, "hosts", 2, CPU), *SERVED, *FAR], {"metric": "hosts", "min": 2}, True, "hosts = 2"),
    (False, [("root", 0, "hosts", 2, CPU), *SERVED], {"metric": "hosts", "min": 2}, False, "of which 1 is borne out"),
    # On several nodes each must have measured it.
    (False, FAR, {"step": "far", "metric": "tokens", "min": 1}, False, "only/far measured no tokens on node 2"),
    (False, [*FAR, ("far", 2, "tokens", 0, CPU)], {"step": "far", "metric": "tokens", "min": 1}, False, "at least 1"),
    (False, [*FAR, ("far", 2, "tokens", 5, CPU)], {"step": "far", "metric": "tokens", "min": 1}, True, "tokens = 9"),
]  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = Bench(tmp_path_factory.mktemp("phase"), *STEPS, machine=MachineNeed(nodes=3))
    for step in STEPS:
        key = {"run": RUN, "phase": PHASE, "id": f"{PHASE}/{step.name}"}
        made.ledger.steps.move(key, StepState.RUNNING)
        made.ledger.steps.move(key, StepState.FAILED if step.name == "broken" else StepState.DONE)
    return made


@pytest.mark.parametrize(("shows_gpu", "figures", "asked", "ok", "said"), CASES)
def test_what_a_figure_proves(bench: Bench, shows_gpu: Any, figures: Figures, asked: Any, ok: Any, said: str):
    """It holds, it does not, or it cannot be shown here: by the figure, by who measured it, and by who saw it."""
    bench.ledger.figures.remove(run=RUN)
    bench.context.provider.shows_gpu = shows_gpu
    for step, node, name, value, device in figures:
        row = FigureRow(
            run=RUN, step=f"{PHASE}/{step}", node=node, name=name, value=value, measured_on="there", device=device
        )
        bench.ledger.figures.put(row)
    wanted = Deliverable(name="it", **({"step": "root"} | asked))
    phase = bench.context.phase(PHASE).phase.model_copy(update={"deliverables": (wanted,)})
    (answer,) = Deliverables(bench.context, phase, bench.agent, str(bench.workspace)).judge([], bench.workspace)
    assert (answer.ok, said in answer.detail) == (ok, True), answer


def test_no_figure_of_a_stand_in_is_null_where_a_gpu_was_rented():
    """Only machines that cannot show a GPU give the third answer."""
    assert all(not shows for shows, _, _, ok, _ in CASES if ok is None)
